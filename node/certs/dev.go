package certs

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Dev describes the certificates of a development cluster.
type Dev struct {
	Deployment string
	Regions    []string
	// Hosts and DatabaseHosts are the names and addresses under which nodes
	// and database are called.
	Hosts, DatabaseHosts []string
	DatabaseUsers        []string
	Life                 time.Duration
}

// Dir is a folder with the certificates of a development cluster:
//
//	ca.crt, ca.key                     the authority
//	nodes/<region>.crt, .key           for the nodes of a region
//	database/ca.crt                    the same authority
//	database/node.crt, .key            CockroachDB's, as it names them
//	database/server.crt, .key          PostgreSQL's, as it names them
//	database/client.<user>.crt, .key   for a user of either
//	database-<region>/                 ca.crt, node.crt and .key, for a region that came later
type Dir string

// Authority is the file of the authority's certificate.
func (d Dir) Authority() string { return filepath.Join(string(d), "ca.crt") }

// Node returns the files of the nodes of a region.
func (d Dir) Node(region string) (certificate, key string) {
	return pairAt(string(d), "nodes", region)
}

// Database is the folder that CockroachDB takes as --certs-dir.
func (d Dir) Database() string { return filepath.Join(string(d), "database") }

// DatabaseOf is the folder that CockroachDB takes as --certs-dir in a region of
// MakeRegion.
func (d Dir) DatabaseOf(region string) string { return d.Database() + "-" + region }

// DatabaseServer returns PostgreSQL's own files.
func (d Dir) DatabaseServer() (certificate, key string) { return pairAt(d.Database(), "server") }

// Secure completes a connection URL with what a user needs to be known by his
// certificate and to know the server by its own.
func (d Dir) Secure(u *url.URL, user string) {
	certificate, key := pairAt(d.Database(), "client."+user)
	u.User = url.User(user)
	u.RawQuery = url.Values{
		"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(d.Database(), "ca.crt")},
		"sslcert": {certificate}, "sslkey": {key},
	}.Encode()
}

func pairAt(parts ...string) (certificate, key string) {
	path := filepath.Join(parts...)
	return path + ".crt", path + ".key"
}

// Make writes the certificates. An authority that is there already signs them:
// to run it again renews all but the authority, whose key is never replaced.
func (d Dir) Make(dev Dev) error {
	if err := dev.validate(); err != nil {
		return err
	}
	for _, dir := range []string{string(d), filepath.Join(string(d), "nodes"), d.Database()} {
		if err := os.MkdirAll(dir, 0o755); err != nil { // the keys in it are for their owner alone
			return err
		}
	}
	a, err := openAuthority(string(d), dev.Deployment)
	if err != nil {
		return err
	}
	for _, region := range dev.Regions {
		if err := d.makeNode(a, region, dev); err != nil {
			return err
		}
	}
	return d.makeDatabase(a, dev)
}

// MakeRegion writes the certificates of one more region, dev.Regions' only one,
// for its nodes and its servers of CockroachDB. Nobody else's are touched. The
// authority must be there.
func (d Dir) MakeRegion(dev Dev) error {
	if err := dev.validate(); err != nil {
		return err
	}
	if _, err := os.Stat(d.Authority()); err != nil {
		return err // another one would be believed by nobody
	}
	a, err := openAuthority(string(d), dev.Deployment)
	if err != nil {
		return err
	}
	folder := d.DatabaseOf(dev.Regions[0])
	return errors.Join(os.MkdirAll(folder, 0o755), d.makeNode(a, dev.Regions[0], dev), d.makeServer(a, folder, dev))
}

func (d Dir) makeNode(a *authority, region string, dev Dev) error {
	certificate, key := d.Node(region)
	name := Name{Deployment: dev.Deployment, Region: region}
	return a.issue(certificate, key, leaf{
		// No CommonName: a database of this authority must not take a
		// node's certificate for a user's.
		uris: []*url.URL{name.uri()}, server: true, client: true,
		hosts: append([]string{"node." + region + "." + dev.Deployment}, dev.Hosts...),
	}, dev.Life)
}

// makeServer writes what CockroachDB needs in its folder to serve.
func (d Dir) makeServer(a *authority, folder string, dev Dev) error {
	text, err := os.ReadFile(d.Authority())
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(folder, "ca.crt"), text, 0o644); err != nil {
		return err
	}
	certificate, key := pairAt(folder, "node") // CockroachDB knows its own by that name
	return a.issue(certificate, key, leaf{name: "node", hosts: dev.DatabaseHosts, server: true, client: true}, dev.Life)
}

func (d Dir) makeDatabase(a *authority, dev Dev) error {
	if err := d.makeServer(a, d.Database(), dev); err != nil {
		return err
	}
	certificate, key := d.DatabaseServer()
	if err := a.issue(certificate, key, leaf{name: "postgres server", hosts: dev.DatabaseHosts, server: true}, dev.Life); err != nil {
		return err
	}
	for _, user := range dev.DatabaseUsers {
		certificate, key := pairAt(d.Database(), "client."+user)
		if err := a.issue(certificate, key, leaf{name: user, client: true}, dev.Life); err != nil {
			return err
		}
	}
	return nil
}

func (dev *Dev) validate() error {
	if dev.Life <= 0 {
		return fmt.Errorf("the certificates' life must be more than 0, is %s", dev.Life)
	}
	if len(dev.Regions) == 0 || len(dev.DatabaseHosts) == 0 {
		return errors.New("name the regions and the database's hosts")
	}
	for _, region := range dev.Regions {
		if err := (Name{Deployment: dev.Deployment, Region: region}).Validate(); err != nil {
			return err
		}
	}
	return nil
}
