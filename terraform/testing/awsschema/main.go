// Command awsschema is a Terraform provider that has the schema of hashicorp/aws and nothing else. It serves init,
// validate and mocked tests where the registry of providers cannot be reached. Started by Terraform it serves the
// schema.json beside it. Started by hand it makes that file from the published bindings. It checks names, types,
// blocks and required arguments, never values, and it cannot reach AWS.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// handshake is an environment variable that go-plugin sets for a plugin's process.
const handshake = "TF_PLUGIN_MAGIC_COOKIE"

// schemaFile lies beside the program.
const schemaFile = "schema.json"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "awsschema:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if os.Getenv(handshake) != "" {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		if program, err = filepath.EvalSymlinks(program); err != nil {
			return err
		}
		return serve(filepath.Join(filepath.Dir(program), schemaFile))
	}
	flags := flag.NewFlagSet("awsschema", flag.ContinueOnError)
	lib := flags.String("lib", "", "folder of the bindings, one folder for each resource below it")
	out := flags.String("out", "", "where to write "+schemaFile)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *lib == "" || *out == "" {
		return errors.New("-lib and -out are needed; a provider is started by Terraform")
	}
	schema, err := readBindings(*lib)
	if err != nil {
		return err
	}
	content, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "awsschema: %d resources, %d data sources\n", len(schema.Resources), len(schema.Data))
	return os.WriteFile(*out, content, 0o644)
}
