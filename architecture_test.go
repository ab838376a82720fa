// Package punchclock_test holds the rules of the project: which package may import which, what each package must have,
// and how long files and functions may get. It tests no behaviour.
package punchclock_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/punchclock/punchclock"

// mayImport is the import table. For each package it lists the packages of this module that it may
// import, besides allMay. "x/..." is x and all packages below it.
var mayImport = map[string][]string{
	"node":                {"node/zone", "node/certs", "node/config", "node/punch", "node/httpapi", "node/adminapi", "node/admission", "node/auth", "node/dispatch", "node/batcher", "node/health", "node/controls", "node/peer/...", "node/crdb", "node/rehome", "region/..."},
	"node/cmd/punchclock": {"node", "node/adminapi", "node/auth", "node/certs", "node/client", "node/companies", "node/config", "node/crdb", "node/forecast", "node/keyrotation", "node/punch", "node/rehome", "region/..."},

	// The domain and the settings are leaves.
	"node/punch":  {},
	"node/config": {},
	"node/zone":   {},
	"node/certs":  {},
	// Attendance is derived from punches, never before a receipt.
	"node/attendance": {"node/punch", "node/zone"},

	// The way of a punch, from the outside in. Siblings do not import each other: package node joins them.
	"node/httpapi":     {"node/admission", "node/punch", "node/auth", "region"},
	"node/adminapi":    {"region"},
	"node/auth":        {"node/punch"},
	"node/dispatch":    {"node/punch", "region"},
	"node/batcher":     {"node/punch"},
	"node/admission":   {"node/punch", "region"},
	"node/peer":        {"node/admission", "node/punch", "node/peer/peerpb"},
	"node/peer/peerpb": {},
	"node/crdb":        {"node/punch", "node/zone", "region"},
	"node/health":      {"region"},
	"node/controls":    {"node/health", "node/punch", "region"},

	// Tools of the operator.
	"node/rehome":      {"node/punch", "region"},
	"node/keyrotation": {"node/adminapi", "region/gossip"},
	"node/forecast":    {"node/zone"},
	"node/companies":   {"node/punch", "node/crdb", "region"},
	"node/client":      {"node/punch"},

	// Tests that every implementation of recording must pass, and the HTTP API in memory for the tests of clients.
	"node/punch/punchtest":   {"node/punch"},
	"node/client/clienttest": {"node/admission", "node/auth", "node/httpapi", "node/punch", "region"},

	// The laboratory sees a node from the outside. No product package imports it.
	"node/cmd/punchclock-lab": {"node/lab/...", "node/client", "node/config", "node/punch"},
	"node/lab/cluster":        {"node/config", "node/certs"},
	"node/lab/load":           {"node/punch", "node/client", "node/lab/cluster"},
	"node/lab/drill":          {"node/punch", "node/client", "node/lab/cluster", "node/lab/load", "node/lab/drill/audit", "node/lab/traceview"},
	"node/lab/drill/audit":    {}, // shares no code with the product whose work it checks
	"node/lab/demo":           {"node/punch", "node/client", "node/lab/cluster", "node/lab/load", "node/lab/drill/...", "node/lab/traceview"},
	"node/lab/traceview":      {},
	"node/lab/bench":          {"node/lab/cluster", "node/lab/drill", "node/lab/drill/audit", "node/lab/load", "node/punch"},
	"node/lab/bench/peers":    {"node/auth", "node/punch", "node/zone"}, // a module of its own

	"region":                 {},
	"region/gossip":          {"region", "region/gossip/gossippb"},
	"region/gossip/gossippb": {},
	"region/dns":             {"region"},

	"tracing":            {},
	"tracing/monitoring": {},

	"terraform":                   {},
	"terraform/testing/awsschema": {},
}

var allMay = []string{"tracing"}

// testsMayImport lists what the tests of a package may import besides: real parts, where a fake would prove less.
// Tests always may import their package.
var testsMayImport = map[string][]string{
	"node":                {"node/...", "region/...", "tracing/monitoring"},
	"node/cmd/punchclock": {"node/client/clienttest", "node/lab/cluster"},
	"tracing":             {"node/lab/traceview"},
	"tracing/monitoring":  {"node/lab/cluster", "node/lab/traceview"},
	"node/httpapi":        {"node/client"},
	"node/peer":           {"node/punch/punchtest", "node/certs", "node/batcher", "node/lab/traceview"},
	"node/dispatch":       {"node/admission", "node/punch/punchtest", "node/zone", "node/batcher", "node/peer", "node/lab/traceview"},
	"node/batcher":        {"node/punch/punchtest", "node/lab/traceview"},
	"node/crdb":           {"node/certs", "node/lab/cluster", "node/batcher", "node/lab/traceview"},
	"node/rehome":         {"node/crdb", "node/lab/cluster"},
	"node/lab/load":       {"node/httpapi", "node/auth"},
	"terraform":           {"node/config", "node/lab/cluster"},
	"node/client":         {"node/admission", "node/client/clienttest"},
}

const (
	maxFileLines = 450 // most files have fewer than 300 lines
	maxFuncLines = 70  // a screen
)

// badNames say nothing about a package's purpose, or hide a well-known package.
var badNames = []string{
	"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib", "types", "model", "models", "pkg", "internal",
	"bytes", "context", "crypto", "embed", "errors", "expvar", "flag", "fmt", "hash", "html", "http", "io", "iter", "json", "log",
	"maps", "math", "metrics", "mime", "net", "os", "path", "plugin", "rand", "reflect", "regexp", "rpc", "runtime", "signal",
	"slices", "slog", "sort", "sql", "strings", "sync", "template", "testing", "text", "time", "trace", "unicode", "unique", "url",
}

// sourceFile is one parsed Go file of the module.
type sourceFile struct {
	path      string // from the module's root, with slashes
	pkg       string // the folder
	test      bool
	generated bool
	fset      *token.FileSet
	ast       *ast.File
}

func sources(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parsing: %w", err)
		}
		name = filepath.ToSlash(name)
		files = append(files, sourceFile{
			path: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			generated: ast.IsGenerated(parsed), fset: fset, ast: parsed,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found only %d Go files; is the test run in the module's root?", len(files))
	}
	return files
}

// at returns the place of a node in the file.
func (f *sourceFile) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(pos).Line)
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		below, tree := strings.CutSuffix(p, "/...")
		return pkg == below || tree && strings.HasPrefix(pkg, below+"/")
	})
}

func TestEveryPackageKeepsToTheImportTable(t *testing.T) {
	for _, f := range sources(t) {
		if f.pkg == "." {
			continue // this test, which imports no package of the module
		}
		allowed, known := mayImport[f.pkg]
		if !known {
			t.Errorf("%s: package %s has no row in the import table. Decide which packages of the module it may import, and add it to mayImport in architecture_test.go and to the table of packages in ARCHITECTURE.md.", f.path, f.pkg)
			continue
		}
		allowed = slices.Concat(allowed, allMay)
		if f.test {
			allowed = slices.Concat(allowed, []string{f.pkg}, testsMayImport[f.pkg])
		}
		for _, spec := range f.ast.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatalf("%s: %v", f.at(spec.Pos()), err)
			}
			imported, ours := strings.CutPrefix(imported, module+"/")
			if ours && !matches(allowed, imported) {
				t.Errorf("%s: %s imports %s, which the import table does not allow. Declare an interface in the importing package and let package node join the two, or move the code. If the architecture must change, change the table in architecture_test.go and ARCHITECTURE.md.",
					f.at(spec.Pos()), f.pkg, imported)
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := make(map[string][]string)
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		found := comments[f.pkg]
		if f.ast.Doc != nil {
			found = append(found, f.at(f.ast.Doc.Pos()))
			want := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				want = "Command " + path.Base(f.pkg) + " "
			}
			if !strings.HasPrefix(f.ast.Doc.Text(), want) {
				t.Errorf("%s: the package comment must begin with %q.", f.at(f.ast.Doc.Pos()), want)
			}
		}
		comments[f.pkg] = found
	}
	for pkg, found := range comments {
		switch len(found) {
		case 0:
			t.Errorf("package %s has no package comment. Say in its main file or in a doc.go what it is for and what it is not.", pkg)
		case 1:
		default:
			t.Errorf("package %s has %d package comments, at %s. Keep one; put an empty line between the others and their package clause.", pkg, len(found), strings.Join(found, ", "))
		}
	}
}

func TestNamesSayWhatAPackageIsFor(t *testing.T) {
	for _, f := range sources(t) {
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if slices.Contains(badNames, name) {
			t.Errorf("%s: the name %s does not say what the package is for, or hides a well-known package. Name it for its role or its technology.", f.path, name)
		}
		if base := path.Base(f.pkg); f.pkg != "." && name != "main" && name != base {
			t.Errorf("%s: the package is named %s and lies in %s. Give both one name.", f.path, name, base)
		}
	}
}

func TestFilesAndFunctionsFitAReader(t *testing.T) {
	for _, f := range sources(t) {
		if f.generated {
			continue
		}
		if lines := f.fset.File(f.ast.Pos()).LineCount(); lines > maxFileLines {
			t.Errorf("%s has %d lines, more than %d. Split it by purpose.", f.path, lines, maxFileLines)
		}
		if f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if lines := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; lines > maxFuncLines {
				t.Errorf("%s: func %s has %d lines, more than %d. Move a part with a name of its own into a function.", f.at(fn.Pos()), fn.Name.Name, lines, maxFuncLines)
			}
		}
	}
}

// startsGoroutines reports whether the file has a go statement or calls a method Go, such as a WaitGroup's.
func startsGoroutines(f sourceFile) (found bool) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = true
		case *ast.CallExpr:
			if method, ok := n.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Go" {
				found = true
			}
		}
		return !found
	})
	return found
}

func TestPackagesWithGoroutinesLookForLeaks(t *testing.T) {
	starts := make(map[string]string) // the first file of each package that starts a goroutine
	checked := make(map[string]bool)
	for _, f := range sources(t) {
		if f.test {
			for _, spec := range f.ast.Imports {
				checked[f.pkg] = checked[f.pkg] || spec.Path.Value == `"go.uber.org/goleak"`
			}
			continue
		}
		if _, known := starts[f.pkg]; !known && f.ast.Name.Name != "main" && startsGoroutines(f) {
			starts[f.pkg] = f.path
		}
	}
	for pkg, file := range starts {
		if !checked[pkg] {
			t.Errorf("%s starts goroutines, and no test of %s checks that they end. Add a TestMain that calls goleak.VerifyTestMain.", file, pkg)
		}
	}
}

// TestTimeZonesHaveOneSource keeps the host's table of time zones out: two nodes could store two offsets for one
// company.
func TestTimeZonesHaveOneSource(t *testing.T) {
	for _, f := range sources(t) {
		if f.pkg == "node/zone" {
			continue
		}
		for _, spec := range f.ast.Imports {
			if spec.Path.Value == `"time/tzdata"` {
				t.Errorf("%s: time/tzdata is used only where the host has no table. Use node/zone.", f.at(spec.Pos()))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "LoadLocation") {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s: time.%s prefers the host's table of time zones. Use node/zone.", f.at(n.Pos()), s.Sel.Name)
				}
			}
			return true
		})
	}
}
