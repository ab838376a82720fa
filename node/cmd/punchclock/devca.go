package main

import (
	"fmt"
	"io"
	"time"

	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/node/crdb"
)

type devCACommand struct {
	Dir           string   `arg:"" help:"Folder to write to; made when missing." type:"path"`
	Deployment    string   `help:"Name of the deployment, the --deployment of its nodes." default:"punchclock"`
	Regions       []string `help:"Regions whose nodes get a certificate." required:""`
	Hosts         []string `help:"Names and addresses of the nodes." default:"localhost,127.0.0.1,::1"`
	DatabaseHosts []string `help:"Names and addresses of the database." default:"localhost,127.0.0.1,::1"`
	// A week: nobody forgets for months what was made for an afternoon.
	TTL time.Duration `help:"How long the certificates hold; at most as long as the authority, which holds 90 days." default:"168h"`
}

// Run implements the command.
func (c *devCACommand) Run(out io.Writer) error {
	dir := certs.Dir(c.Dir)
	err := dir.Make(certs.Dev{
		Deployment: c.Deployment, Regions: c.Regions, Hosts: c.Hosts, DatabaseHosts: c.DatabaseHosts, Life: c.TTL,
		DatabaseUsers: []string{"root", "postgres", crdb.NodeRole, crdb.OperatorRole, crdb.MigratorRole},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "authority     %s\n", dir.CAFile())
	for _, region := range c.Regions {
		certificate, _ := dir.Node(region)
		fmt.Fprintf(out, "nodes         %s, for %s\n", certificate, certs.Name{Deployment: c.Deployment, Region: region})
	}
	fmt.Fprintf(out, "database      %s, for --certs-dir of CockroachDB; server.crt and server.key for PostgreSQL\n", dir.Database())
	fmt.Fprintln(out, "Development only: the authority's key lies beside its certificate.")
	return nil
}
