package main

import (
	"fmt"
	"io"
	"time"

	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/node/crdb"
)

// devCACommand is `punchclock dev-ca`.
type devCACommand struct {
	Dir           string   `arg:"" help:"Folder for the files. The command creates it." type:"path"`
	Deployment    string   `help:"Name of the deployment, as --deployment of its nodes." default:"punchclock"`
	Regions       []string `help:"Regions whose nodes get a certificate." required:""`
	Hosts         []string `help:"Names and addresses of the nodes." default:"localhost,127.0.0.1,::1"`
	DatabaseHosts []string `help:"Names and addresses of the database." default:"localhost,127.0.0.1,::1"`
	// After a week a forgotten development deployment stops working.
	TTL time.Duration `help:"Time until the certificates expire. The CA expires after 90 days, and no certificate lasts longer." default:"168h"`
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
	fmt.Fprintf(out, "CA            %s\n", dir.CAFile())
	for _, region := range c.Regions {
		certificate, _ := dir.Node(region)
		fmt.Fprintf(out, "nodes         %s, for %s\n", certificate, certs.Name{Deployment: c.Deployment, Region: region})
	}
	fmt.Fprintf(out, "database      %s, as --certs-dir of CockroachDB; PostgreSQL needs server.crt and server.key\n", dir.Database())
	fmt.Fprintln(out, "Development only: the key of the CA lies beside its certificate.")
	return nil
}
