// Package cluster runs a multi-region deployment on one machine, as real processes on loopback: a database and some nodes
// for each region. The demo, the drills and the tests use it. Certificates of a CA of its own secure it, as in production.
// It is not for production: the CA's key lies beside the data, and all regions fail with the machine. See DESIGN.md.
package cluster
