// Package admission decides at the door which requests a node takes on. Under overload a node commits as many punches as
// it can carry. It refuses the others at once, before it has done any work for them. DESIGN.md says how and why.
package admission
