package main

import (
	"fmt"
	"io"
	"time"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/client"
)

// idCommand is `punchclock new-id`.
type idCommand struct {
	At time.Time `help:"Time of the punch, RFC 3339. The default is now." format:"2006-01-02T15:04:05Z07:00"`
}

// Run implements the command.
func (c *idCommand) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, client.Request{At: c.At}.WithID().ID)
	return err
}

// tokenCommand is `punchclock token`.
type tokenCommand struct {
	Company  string        `help:"Company of the caller." required:""`
	Subject  string        `help:"Subject of the token. For the role employee it is the id of the employee." required:""`
	Role     string        `help:"employee, kiosk, manager or operator." enum:"employee,kiosk,manager,operator" default:"kiosk"`
	TTL      time.Duration `help:"Time until the token expires." default:"12h"` // longer than a working day
	KeyFile  string        `help:"Development key that signs the token." required:"" type:"path"`
	NewKey   bool          `help:"Create the key and its key set if they are missing."`
	JWKS     string        `help:"File to which --new-key writes the key set for the nodes." type:"path"`
	Issuer   string        `help:"Issuer in the token." default:"punchclock"`
	Audience string        `help:"Audience in the token." default:"punchclock"`
}

// Run implements the command.
func (c *tokenCommand) Run(out io.Writer) error {
	return auth.WriteToken(out, auth.TokenOptions{
		Claims: auth.Claims{
			Company: c.Company, Subject: c.Subject, Role: auth.Role(c.Role),
			Issuer: c.Issuer, Audience: c.Audience, TTL: c.TTL,
		},
		KeyFile: c.KeyFile, NewKey: c.NewKey, JWKSFile: c.JWKS,
	}, time.Now())
}
