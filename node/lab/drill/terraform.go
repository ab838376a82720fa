package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// terraform returns a command of an operator who runs the victim's nodes with the configuration in terraform/local.
func terraform(command string) func(context.Context, *target) error {
	return func(ctx context.Context, s *target) error {
		return shell(fmt.Sprintf(`terraform -chdir=%q %s -var region="$PUNCHCLOCK_LAB_DRILL_REGION"`, s.local, command))(ctx, s)
	}
}

// checkTerraform returns an error that names what is missing.
func checkTerraform(local string) error {
	if _, err := exec.LookPath("terraform"); err != nil {
		return errors.New("needs Terraform on the PATH")
	}
	if _, err := os.Stat(filepath.Join(local, "main.tf")); err != nil {
		return fmt.Errorf("needs the folder terraform/local of the source: %w", err)
	}
	return nil
}

// handOver lets Terraform run the victim's nodes in the cluster's place. Terraform's state lies in the cluster's
// folder, away from any other state. When the cluster stops, its nodes stop as well.
func (s *target) handOver(ctx context.Context) error {
	s.say("handing the nodes of %s over to Terraform", s.victim)
	if err := s.eachNode(func(n *cluster.Node) error { return n.Stop(ctx) }); err != nil {
		return err
	}
	if err := s.useTerraform(ctx); err != nil {
		return err
	}
	return terraform("apply -auto-approve")(ctx, s)
}

// useTerraform prepares Terraform and runs no node.
func (s *target) useTerraform(ctx context.Context) error {
	file := s.environment.Path("cluster.json")
	if s.control == nil {
		control, err := s.environment.Serve(file)
		if err != nil {
			return err
		}
		s.control = control
	}
	s.env = []string{
		"TF_DATA_DIR=" + s.environment.Path("terraform"), "TF_WORKSPACE=" + s.victim,
		"TF_IN_AUTOMATION=1", "TF_INPUT=0", "TF_CLI_ARGS=-no-color", "CHECKPOINT_DISABLE=1", // it must not look for a newer version
		"TF_VAR_cluster=" + file, "TF_VAR_binary=" + s.binary, "TF_VAR_lab=" + s.lab, fmt.Sprintf("TF_VAR_nodes=%d", len(s.environment.Nodes())/len(s.environment.Regions())),
	}
	// init runs in the workspace default, which always exists. In a missing workspace, beside others, it would ask for
	// one.
	prepare := fmt.Sprintf(`TF_WORKSPACE=default terraform -chdir=%q init -backend-config=workspace_dir=%q`, s.local, s.environment.Path("terraform-states"))
	return shell(prepare)(ctx, s)
}
