package cluster

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestEnvironment starts the smallest environment, finds all of it in its file, and leaves
// nothing behind.
func TestEnvironment(t *testing.T) {
	engines := Engines()
	if len(engines) == 0 {
		t.Fatal("no database engine was found: run scripts/setup")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	binary, err := Build(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	setup := Setup{Engine: engines[len(engines)-1].Name, NodesPerRegion: 1, CompaniesPerRegion: 1, Binary: binary}
	st, err := setup.Start(ctx, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "json")
	want := st.State()
	if err := want.Write(file); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with tokens has mode %v, %v", info.Mode(), err)
	}
	got, err := ReadState(file)
	if err != nil || !reflect.DeepEqual(got, &want) {
		t.Errorf("read %+v, %v\nwrote %+v", got, err, &want)
	}
	if len(want.Companies) != 3 || want.OperatorToken == "" || len(want.Entries()) != 3 {
		t.Errorf("%d companies, %d entries, operator's token %q", len(want.Companies), len(want.Entries()), want.OperatorToken)
	}
	if err := st.Close(ctx); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{st.Dir(), filepath.Dir(st.Path("x"))} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

func TestSetupIsChecked(t *testing.T) {
	_, err := (&Setup{NodesPerRegion: 1}).Start(context.Background(), io.Discard, nil)
	if err == nil || !strings.Contains(err.Error(), "--companies-per-region") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
}
