package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

func TestWhatTheBindingsTell(t *testing.T) {
	schema, err := readBindings("testdata/lib")
	if err != nil {
		t.Fatal(err)
	}
	want := Block{
		Attributes: map[string]Attribute{
			"arn":       {Type: "string", Computed: true},
			"proofs":    {Type: []any{"set", []any{"object", map[string]any{"record": "string"}}}, Computed: true},
			"secret_wo": {Type: "string", Optional: true, WriteOnly: true},
			"tags":      {Type: []any{"map", "string"}, Optional: true, Computed: true},
			// The declarations do not call it a block, so it is an attribute.
			"rule": {Type: []any{"set", []any{"object", map[string]any{"port": "number"}}}, Optional: true, Computed: true},
		},
		Blocks: map[string]Nested{
			"shell": {Nesting: "list", Max: 1, Block: Block{
				Attributes: map[string]Attribute{"thick": {Type: "bool", Optional: true}}, Blocks: map[string]Nested{},
			}},
			"part": {Nesting: "set", Min: 1, Block: Block{
				Attributes: map[string]Attribute{"name": {Type: "string", Required: true}, "weights": {Type: []any{"list", "number"}, Optional: true}}, Blocks: map[string]Nested{},
			}},
			"timeouts": {Nesting: "single", Block: Block{
				Attributes: map[string]Attribute{"create": {Type: "string", Optional: true}}, Blocks: map[string]Nested{},
			}},
		},
	}
	if got := schema.Resources["aws_gadget"]; !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%s\nwant\n%s", mustJSON(t, got), mustJSON(t, want))
	}
	if got := schema.Data["aws_gadget"].Attributes["region"]; got.Type != "string" || len(schema.Provider.Attributes) != 1 {
		t.Errorf("data source %+v, provider %+v", schema.Data["aws_gadget"], schema.Provider)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWhatTerraformIsTold writes a schema file and reads it through the plugin protocol.
func TestWhatTerraformIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), schemaFile)
	if err := run([]string{"-lib", "testdata/lib", "-out", file}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var schema Schema
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	told, err := schema.protocol()
	if err != nil {
		t.Fatal(err)
	}
	gadget := told.ResourceSchemas["aws_gadget"].Block
	types := make(map[string]string)
	for _, a := range gadget.Attributes {
		types[a.Name] = a.Type.String()
	}
	if len(types) != 5 || types["tags"] != "tftypes.Map[tftypes.String]" || !strings.HasPrefix(types["rule"], "tftypes.Set[tftypes.Object[") {
		t.Errorf("attributes are %v", types)
	}
	blocks := make(map[string]*tfprotov6.SchemaNestedBlock)
	for _, b := range gadget.BlockTypes {
		blocks[b.TypeName] = b
	}
	if b := blocks["part"]; b.MinItems != 1 || b.MaxItems != 0 || b.Nesting != tfprotov6.SchemaNestedBlockNestingModeSet {
		t.Errorf("part is %+v", b)
	}
	if b := blocks["timeouts"]; b.Nesting != tfprotov6.SchemaNestedBlockNestingModeSingle {
		t.Errorf("timeouts is %+v", b)
	}
	answer, err := provider{schema: told}.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{})
	if err != nil || len(answer.Diagnostics) != 1 || answer.Diagnostics[0].Severity != tfprotov6.DiagnosticSeverityError {
		t.Errorf("it must refuse to reach AWS, said %+v, %v", answer, err)
	}
}

func TestBindingsOfAnotherForm(t *testing.T) {
	for name, js := range map[string]string{
		"no resource":   "class Gadget extends cdktn.TerraformResource {\n}\n",
		"no attributes": "class Gadget extends cdktn.TerraformResource {\n    static tfResourceType = \"aws_gadget\";\n}\n",
	} {
		lib := t.TempDir()
		if err := os.Mkdir(filepath.Join(lib, "gadget"), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"index.js": js, "index.d.ts": ""} {
			if err := os.WriteFile(filepath.Join(lib, "gadget", file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := readBindings(lib); err == nil || !strings.Contains(err.Error(), "has the form of the bindings changed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := readBindings(t.TempDir()); err == nil {
		t.Error("an empty folder was taken")
	}
}
