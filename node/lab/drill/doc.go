// Package drill breaks a cluster under load and shows that no punch was lost. A scenario breaks something and heals it.
// Meanwhile a steady load punches through all regions and writes a ledger. Afterwards package audit compares the ledger
// with the rows in the database, and the scenario's bounds limit latency and recovery.
//
// The load comes from node/lab/load and the cluster from node/lab/cluster. The package contains no part of the product.
package drill
