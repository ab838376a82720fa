// Package admission decides at the door which requests a node takes on.
package admission
