package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// EnvPrefix begins the name of every environment variable that is a setting.
const EnvPrefix = "PUNCHCLOCK"

// labPrefix begins the variables of punchclock-lab, which checks them itself.
// A drill passes them on to the commands of this program that it runs.
const labPrefix = EnvPrefix + "_LAB_"

// Options make a kong parser read flags first, then the environment, the settings file and the defaults. An unknown key
// in any of them is an error.
func Options() []kong.Option {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node" // the name is unique without it
	}
	return []kong.Option{
		kong.DefaultEnvars(EnvPrefix),
		kong.Configuration(loadYAML),
		kong.Vars{"hostname": strings.ToLower(strings.SplitN(host, ".", 2)[0])},
		kong.UsageOnError(),
	}
}

// CheckEnvironment returns an error that names the variables with the prefix that no command reads. They are probably
// misspelt.
func CheckEnvironment(app *kong.Application, environ []string) error {
	var known []string
	eachFlag(app.Node, func(f *kong.Flag) { known = append(known, f.Envs...) })
	var errs []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, EnvPrefix+"_") && !strings.HasPrefix(name, labPrefix) && !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("environment: %s is not a setting", name))
		}
	}
	return errors.Join(errs...)
}

func eachFlag(n *kong.Node, do func(*kong.Flag)) {
	for _, f := range n.Flags {
		do(f)
	}
	for _, child := range n.Children {
		eachFlag(child, do)
	}
}

// file is a settings file: flat keys with the names of the flags.
type file map[string]any

// loadYAML reads a settings file for kong.
func loadYAML(r io.Reader) (kong.Resolver, error) {
	settings := file{}
	if err := yaml.NewDecoder(r).Decode(&settings); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("settings file: %w", err)
	}
	return settings, nil
}

// Validate implements kong.Resolver: every key must be a flag of some command.
func (f file) Validate(app *kong.Application) error {
	known := make(map[string]bool)
	eachFlag(app.Node, func(flag *kong.Flag) { known[flag.Name] = true })
	var errs []error
	for key := range f {
		if !known[key] {
			errs = append(errs, fmt.Errorf("settings file: %s is not a setting", key))
		}
	}
	return errors.Join(errs...)
}

// Resolve implements kong.Resolver. It returns nothing for a setting that the environment has: kong would let the file
// override a variable that was set for one run.
func (f file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := f[flag.Name]
	if !ok || slices.ContainsFunc(flag.Envs, inEnvironment) {
		return nil, nil
	}
	if list, isList := value.([]any); isList {
		parts := make([]string, len(list))
		for i, v := range list {
			parts[i] = fmt.Sprint(v)
		}
		return strings.Join(parts, ","), nil
	}
	return fmt.Sprint(value), nil
}

func inEnvironment(name string) bool {
	_, set := os.LookupEnv(name)
	return set
}
