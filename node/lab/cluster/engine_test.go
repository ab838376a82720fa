package cluster

import (
	"slices"
	"testing"
)

func TestFindEngine(t *testing.T) {
	engines := Engines()
	if len(engines) == 0 {
		t.Fatal("no database engine on this machine: these tests need one")
	}
	for _, e := range engines {
		found, err := FindEngine(e.Name)
		if err != nil || found != e || e.Version == "" {
			t.Errorf("FindEngine(%q) = %+v, %v; expected %+v with a version", e.Name, found, err, e)
		}
	}
	if first, err := FindEngine(""); err != nil || first != engines[0] {
		t.Errorf("FindEngine(\"\") = %+v, %v; expected %+v", first, err, engines[0])
	}
	_, err := FindEngine("oracle")
	mustContain(t, err, `"oracle"`, Cockroach, Postgres)
}

func TestNoEngine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("COCKROACH_BINARY", "")
	if _, err := FindEngine(Cockroach); err != nil {
		mustContain(t, err, "COCKROACH_BINARY", "PATH")
	} else {
		t.Error("found cockroach on an empty PATH")
	}
	folders := postgresFolders
	t.Cleanup(func() { postgresFolders = folders })
	postgresFolders = []string{t.TempDir() + "/*"}
	_, err := FindEngine("")
	mustContain(t, err, "COCKROACH_BINARY", "apt-get install postgresql", "15")
	if _, err := StartDatabase(testContext(t), Config{Dir: t.TempDir()}); err == nil {
		t.Error("a database started without an engine")
	}
}

// TestBrokenCockroachBinary: a named binary that does not run is an error. It must not lead to another engine.
func TestBrokenCockroachBinary(t *testing.T) {
	t.Setenv("COCKROACH_BINARY", "/bin/false")
	for _, prefer := range []string{"", Cockroach} {
		_, err := FindEngine(prefer)
		mustContain(t, err, "/bin/false")
	}
	if slices.ContainsFunc(Engines(), func(e Engine) bool { return e.Name == Cockroach }) {
		t.Error("Engines lists a binary that does not run")
	}
}
