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

// operator holds the flags of a command that asks a node through its operations listener.
type operator struct {
	OpsURL    string `help:"Base URL of the operations listener of any node." default:"http://127.0.0.1:9090"`
	Token     string `help:"Token of an operator. --token-file keeps it out of the list of processes."`
	TokenFile string `help:"File with the token of an operator." type:"path"`
	// A certificate names the deployment of its node, and no host.
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

// statusCommand is `punchclock status`.
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

// regionCommand is `punchclock region`.
type regionCommand struct {
	Evacuate evacuateCommand `cmd:"" help:"Take a region out of service. It finishes the punches that it has and gets no more."`
	Restore  restoreCommand  `cmd:"" help:"Put a region back into service."`

	List      listRegionsCommand  `cmd:"" help:"Show the regions of the database, with the number of companies whose home is there."`
	Add       addRegionCommand    `cmd:"" help:"Add a region to the database. Database servers must run there already. The command may run twice."`
	MoveHomes moveHomesCommand    `cmd:"" help:"Move all companies of a region to another home region, without a pause. After an interruption, run the same command again."`
	Remove    removeRegionCommand `cmd:"" help:"Remove a region from the database. The command refuses a region that is in service or has companies."`
}

type evacuateCommand struct {
	operator
	Region     string        `arg:"" help:"Region to take out of service."`
	For        time.Duration `help:"Time after which the evacuation ends by itself. With 0 it lasts until 'region restore'."`
	GossipOnly bool          `help:"Tell the nodes by gossip alone, for a database that cannot be written. Needs --for of at most 1h. A node that starts later does not know of it."`
}

// Run implements the command.
func (c *evacuateCommand) Run(ctx context.Context, out io.Writer) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.Evacuate(ctx, c.Region, c.For, c.GossipOnly)
	if err != nil {
		return err
	}
	return printRegionSwitches(out, list, c.GossipOnly)
}

type restoreCommand struct {
	operator
	Region     string `arg:"" help:"Region to put back into service."`
	GossipOnly bool   `help:"Tell the nodes by gossip alone, for a database that cannot be written."`
}

// Run implements the command.
func (c *restoreCommand) Run(ctx context.Context, out io.Writer) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.Restore(ctx, c.Region, c.GossipOnly)
	if err != nil {
		return err
	}
	return printRegionSwitches(out, list, c.GossipOnly)
}

// degradeCommand is `punchclock degrade`.
type degradeCommand struct {
	operator
	Level      uint8         `arg:"" help:"0 full service; 1 boards from caches and followers only; 2 besides no exports, no rebuilds and no rows carried to another home; 3 punches only."`
	Region     string        `help:"Region whose nodes obey. The default is every region of the database."`
	For        time.Duration `help:"Time after which the level ends by itself. With 0 it lasts until 'degrade 0'."`
	GossipOnly bool          `help:"Tell the nodes by gossip alone, for a database that cannot be written. Needs --for of at most 1h. A node that starts later does not know of it."`
}

// Run implements the command.
func (c *degradeCommand) Run(ctx context.Context, out io.Writer) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.Degrade(ctx, adminapi.DegradeRequest{
		Level: c.Level, Region: c.Region, Request: adminapi.Request{For: c.For, GossipOnly: c.GossipOnly},
	})
	if err != nil {
		return err
	}
	return printRegionSwitches(out, list, c.GossipOnly)
}

func printRegionSwitches(out io.Writer, list []region.Switch, gossipOnly bool) error {
	for _, s := range list {
		state := fmt.Sprintf("has level %d", s.Level)
		switch {
		case s.Kind == region.Evacuation && s.Level > 0:
			state = "is evacuated"
		case s.Kind == region.Evacuation:
			state = "is in service"
		}
		if !s.Until.IsZero() {
			state += " until " + s.Until.Format(time.RFC3339)
		}
		if gossipOnly {
			state += "; only gossip knows of it, not the database"
		}
		if _, err := fmt.Fprintf(out, "region %s %s (version %d)\n", s.Region, state, s.Version); err != nil {
			return err
		}
	}
	return nil
}
