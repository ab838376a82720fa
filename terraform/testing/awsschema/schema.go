package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Schema is the schema of the provider.
type Schema struct {
	Provider  Block            `json:"provider"`
	Resources map[string]Block `json:"resources"`
	Data      map[string]Block `json:"data"`
}

// Block is a resource, a data source, or a block in one of them.
type Block struct {
	Attributes map[string]Attribute `json:"attributes,omitempty"`
	Blocks     map[string]Nested    `json:"blocks,omitempty"`
}

// Attribute is an argument or an exported value. Type is a type constraint in Terraform's JSON form, such as "string"
// or ["list","string"].
type Attribute struct {
	Type      any  `json:"type"`
	Optional  bool `json:"optional,omitempty"`
	Required  bool `json:"required,omitempty"`
	Computed  bool `json:"computed,omitempty"`
	WriteOnly bool `json:"write_only,omitempty"`
}

// Nested is a block in a block.
type Nested struct {
	Nesting string `json:"nesting"` // list, set or single
	Min     int64  `json:"min,omitempty"`
	Max     int64  `json:"max,omitempty"` // 0 means unlimited
	Block   Block  `json:"block"`
}

// readBindings reads every folder of lib.
func readBindings(lib string) (Schema, error) {
	schema := Schema{Resources: make(map[string]Block), Data: make(map[string]Block)}
	folders, err := os.ReadDir(lib)
	if err != nil {
		return schema, err
	}
	for _, folder := range folders {
		dir := filepath.Join(lib, folder.Name())
		js, err := os.ReadFile(filepath.Join(dir, "index.js"))
		if err != nil {
			return schema, err
		}
		types, err := os.ReadFile(filepath.Join(dir, "index.d.ts"))
		if err != nil {
			return schema, err
		}
		b := parse(string(js), string(types))
		block := b.block("", "", false)
		if b.resource == "" || len(block.Attributes) == 0 {
			return schema, fmt.Errorf("%s holds no resource: has the form of the bindings changed?", dir)
		}
		switch {
		case folder.Name() == "provider":
			schema.Provider = block
		case strings.HasPrefix(folder.Name(), "data-aws-"):
			schema.Data[b.resource] = block
		default:
			schema.Resources[b.resource] = block
		}
	}
	if len(schema.Provider.Attributes) == 0 || len(schema.Resources) == 0 {
		return schema, errors.New("the bindings hold no provider or no resource")
	}
	return schema, nil
}

// block assembles a resource (structName empty) or a part of it. A nested attribute, unlike a block, holds attributes
// only.
func (b *bindings) block(structName, class string, inAttribute bool) Block {
	out := Block{Attributes: make(map[string]Attribute), Blocks: make(map[string]Nested)}
	if structName == "" {
		class = b.class
	}
	properties, blocks := b.properties[class], b.blocks[strings.TrimSuffix(class, outputSuffix)]
	if structName == "" {
		blocks = b.blocks[class+"Config"]
	}
	for _, e := range b.entries[structName] {
		p, known := properties[e.name]
		if !known {
			p.optional = true
		}
		if !e.nested {
			out.Attributes[e.name] = Attribute{
				Type: e.plainType(), Optional: p.optional, Required: p.required, Computed: p.computed, WriteOnly: e.writeOnly,
			}
			continue
		}
		child := b.block(e.structName, upperFirst(e.structName)+outputSuffix, inAttribute || !blocks[e.name])
		if blocks[e.name] && !inAttribute {
			out.Blocks[e.name] = e.nest(child, p.required)
			continue
		}
		out.Attributes[e.name] = Attribute{Type: e.wrap(child.object()), Optional: p.optional, Required: p.required, Computed: p.computed}
	}
	for name, p := range properties { // an exported value is no entry
		if _, settable := out.Attributes[name]; settable || !p.computed || p.optional || p.required {
			continue
		}
		out.Attributes[name] = Attribute{Type: b.exported(p), Computed: true}
	}
	return out
}

// exported returns the type of a value that is exported only.
func (b *bindings) exported(p property) any {
	if p.of == "" {
		return p.getter
	}
	fields := make(map[string]any)
	for name, field := range b.properties[p.of] {
		fields[name] = b.exported(field)
	}
	object := []any{"object", fields}
	if p.collection == "" {
		return object
	}
	return []any{p.collection, object}
}

// object returns the type of a block as a value.
func (b Block) object() any {
	fields := make(map[string]any, len(b.Attributes))
	for name, a := range b.Attributes {
		fields[name] = a.Type
	}
	return []any{"object", fields}
}
