package terraform_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDestroyIsRefusedWhileHomesRemain really applies and destroys, with what
// needs no provider: the guard, and a stand-in for the rest of the region.
func TestDestroyIsRefusedWhileHomesRemain(t *testing.T) {
	t.Parallel()
	w := mustWorkspace(t)
	root := filepath.Join(w.dir, "guarded")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, root, "main.tf", `
resource "terraform_data" "rest" {
  provisioner "local-exec" {
    when    = destroy
    command = "echo destroyed >>rest"
  }
}

module "guard" {
  source     = "../modules/region/guard"
  region     = "eu-west-1"
  command    = "echo asked about $GUARDED_REGION >>asked; test -e empty"
  depends_on = [terraform_data.rest]
}
`)
	w.run(t, "guarded", "init", "-no-color")
	w.run(t, "guarded", "apply", "-auto-approve", "-no-color")
	exists := func(name string) bool { _, err := os.Stat(filepath.Join(root, name)); return err == nil }

	if out, err := w.try("guarded", "destroy", "-auto-approve", "-no-color"); err == nil {
		t.Fatalf("homes remain, and it was destroyed:\n%s", out)
	}
	if state := w.run(t, "guarded", "state", "list"); !strings.Contains(state, "terraform_data.rest") || !strings.Contains(state, "module.guard.terraform_data.homes") || exists("rest") {
		t.Errorf("after a refusal everything must be there, there is %s", state)
	}
	mustWrite(t, root, "empty", "")
	w.run(t, "guarded", "destroy", "-auto-approve", "-no-color")
	if state := w.run(t, "guarded", "state", "list"); state != "" || !exists("rest") {
		t.Errorf("nothing stood against it, left is %s", state)
	}
	if asked, err := os.ReadFile(filepath.Join(root, "asked")); err != nil || string(asked) != "asked about eu-west-1\nasked about eu-west-1\n" {
		t.Errorf("asked were %q, %v", asked, err)
	}
}
