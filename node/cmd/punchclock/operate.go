package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/region"
)

// operator reaches a node's operations API.
type operator struct {
	OpsURL    string `help:"Base URL of a node's operations listener; any node will do." default:"http://127.0.0.1:9090"`
	Token     string `help:"Operator's token; better in a file."`
	TokenFile string `help:"File that holds the operator's token." type:"path"`
	// Nodes are known by their names in the deployment, not by their hosts'.
	OpsCAFile     string `help:"PEM certificates of the authorities that sign nodes; for an https --ops-url." type:"path"`
	OpsDeployment string `help:"Deployment whose nodes are asked, the --deployment of its nodes." default:"punchclock"`
}

func (o *operator) client() (adminapi.Client, error) {
	token := o.Token
	if o.TokenFile != "" {
		b, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return adminapi.Client{}, fmt.Errorf("--token-file: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	if token == "" {
		return adminapi.Client{}, errors.New("--token-file: an operator's token is needed")
	}
	client := adminapi.Client{URL: strings.TrimSuffix(o.OpsURL, "/"), Token: token}
	if !strings.HasPrefix(client.URL, "https://") {
		return client, nil
	}
	if o.OpsCAFile == "" {
		return client, errors.New("--ops-ca-file: is needed to know the node behind " + client.URL)
	}
	config, err := certs.OperatorClient(o.OpsCAFile, o.OpsDeployment)
	if err != nil {
		return client, fmt.Errorf("--ops-ca-file: %w", err)
	}
	client.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	return client, nil
}

type statusCommand struct {
	operator
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (c *statusCommand) Run(ctx context.Context, out io.Writer) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(status)
	}
	return status.WriteTable(out)
}

type regionCommand struct {
	Evacuate evacuateCommand `cmd:"" help:"Take a region out of service: it finishes what it has and is sent nothing more."`
	Restore  restoreCommand  `cmd:"" help:"Put a region back into service."`

	List      listRegionsCommand  `cmd:"" help:"Show the database's regions and how many companies live in each."`
	Add       addRegionCommand    `cmd:"" help:"Add a region to the database, in which its servers run already. Safe to run twice."`
	MoveHomes moveHomesCommand    `cmd:"" help:"Move all companies of a region to another, while punches go on. May be interrupted and run again."`
	Remove    removeRegionCommand `cmd:"" help:"Take a region from the database. Refused while it is in service or anything lives there."`
}

type evacuateCommand struct {
	operator
	Region     string        `arg:"" help:"Region to take out of service."`
	For        time.Duration `help:"End by itself after this long; 0 holds until it is restored."`
	GossipOnly bool          `help:"Tell the nodes without the database, when that cannot take the write. Needs --for, of at most an hour; a node that starts meanwhile does not know of it."`
}

// Run implements the command.
func (c *evacuateCommand) Run(ctx context.Context, out io.Writer) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	e, err := client.Evacuate(ctx, c.Region, c.For, c.GossipOnly)
	if err != nil {
		return err
	}
	return say(out, e, c.GossipOnly)
}

type restoreCommand struct {
	operator
	Region     string `arg:"" help:"Region to put back into service."`
	GossipOnly bool   `help:"Tell the nodes without the database."`
}

// Run implements the command.
func (c *restoreCommand) Run(ctx context.Context, out io.Writer) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	e, err := client.Restore(ctx, c.Region, c.GossipOnly)
	if err != nil {
		return err
	}
	return say(out, e, c.GossipOnly)
}

func say(out io.Writer, e region.Evacuation, gossipOnly bool) error {
	what := "is in service"
	if e.On {
		what = "is evacuated"
		if !e.Until.IsZero() {
			what += " until " + e.Until.Format(time.RFC3339)
		}
	}
	if gossipOnly {
		what += "; told by gossip alone, the database does not know of it"
	}
	_, err := fmt.Fprintf(out, "region %s %s (version %d)\n", e.Region, what, e.Version)
	return err
}
