package punchclock_test

// notPlainYet are the folders and files whose text does not keep to the rules yet.
var notPlainYet = []string{
	".golangci.yml",
	"Makefile",
	"architecture_test.go",
	"node/crdb",
	"node/crdb/dml",
	"node/crdb/schema/cockroach",
	"node/crdb/schema/postgres",
	"node/keyrotation",
	"node/lab/drill",
	"node/lab/load",
	"node/lab/traceview",
	"node/rehome",
	"region/dns",
	"terraform/testing/awsschema",
	"tracing",
	"tracing/monitoring",
	"tracing/monitoring/collector",
	"tracing/monitoring/rules",
	"tracing/monitoring/rules/tests",
}
