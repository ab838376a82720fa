# The environment of the operator, who comes by Session Manager and becomes root: the database and
# the nodes for `punchclock` and `cockroach`.
if [ "$(id -u)" = 0 ]; then
	certs=/run/cockroach/certs
	export PATH="$PATH:/usr/local/bin:/opt/cockroach"
	export COCKROACH_CERTS_DIR=$certs COCKROACH_HOST=${address}:26257
	export PUNCHCLOCK_DATABASE_URL="postgres://root@${address}:26257/clock?sslmode=verify-full&sslrootcert=$certs/ca.crt&sslcert=$certs/client.root.crt&sslkey=$certs/client.root.key"
	export PUNCHCLOCK_OPS_URL=https://${operations}:9090 PUNCHCLOCK_OPS_CA_FILE=/run/punchclock/ca.crt PUNCHCLOCK_OPS_DEPLOYMENT=${deployment}
	unset certs
fi
