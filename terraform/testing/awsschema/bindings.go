package main

import (
	"regexp"
	"strings"
)

// bindings is the content of one folder of bindings, for one resource. The bindings are generated TypeScript, compiled
// to JavaScript, so they all have one form. Each class lists its properties with a comment. Each struct has a function
// that lists its entries with their types. The declarations say which entries are blocks.
type bindings struct {
	resource string // such as aws_vpc
	class    string // the resource's class, such as Vpc
	// properties holds the properties of each class, by their names in Terraform.
	properties map[string]map[string]property
	// entries holds the entries of each struct. Those with the empty name belong to the resource.
	entries map[string][]entry
	// blocks names the entries that are blocks, for each interface.
	blocks map[string]map[string]bool
}

// property is an attribute as a class describes it.
type property struct {
	computed, optional, required bool

	getter     any    // type of a plain value
	of         string // class of an object, or of the elements of a collection
	collection string // list, set or map; empty for one object
}

// entry is an argument.
type entry struct {
	name       string
	value      string // the expression that encodes it
	nested     bool
	writeOnly  bool
	kind       string // simple, list, set, map or struct
	storage    string
	structName string // of a nested entry
}

const outputSuffix = "OutputReference"

var (
	resourceLine  = regexp.MustCompile(`static tfResourceType = "([^"]+)"`)
	functionLine  = regexp.MustCompile(`^function (\w+)ToHclTerraform\(struct\)`)
	classLine     = regexp.MustCompile(`^(?:export )?class (\w+) extends `)
	propertyLine  = regexp.MustCompile(`^\s*// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)`)
	getterLine    = regexp.MustCompile(`this\.get(\w+)Attribute\(['"](\w+)['"]\)`)
	referenceLine = regexp.MustCompile(`= new (\w+?)(List|Map|OutputReference)\(this, "(\w+)"(?:, (\w+))?`)
	entryLine     = regexp.MustCompile(`^\s+(\w+): \{$`)
	fieldLine     = regexp.MustCompile(`^\s+(value|isBlock|type|storageClassType): (.*),$`)
	structCall    = regexp.MustCompile(`(\w+)ToHclTerraform`)

	interfaceLine = regexp.MustCompile(`^export interface (\w+)`)
	blockLine     = regexp.MustCompile(`^\s*\* (\w+) block\s*$`)
)

// parse reads the two files of a folder.
func parse(js, types string) *bindings {
	b := &bindings{
		properties: make(map[string]map[string]property), entries: make(map[string][]entry), blocks: make(map[string]map[string]bool),
	}
	r := reader{b: b}
	for line := range strings.Lines(js) {
		r.read(strings.TrimRight(line, "\r\n"))
	}
	var current string
	for line := range strings.Lines(types) {
		if m := interfaceLine.FindStringSubmatch(line); m != nil {
			current = m[1]
			b.blocks[current] = make(map[string]bool)
		} else if m := blockLine.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil && current != "" {
			b.blocks[current][m[1]] = true
		} else if strings.HasPrefix(line, "}") {
			current = ""
		}
	}
	return b
}

// reader holds the position in the JavaScript.
type reader struct {
	b        *bindings
	class    string
	property string // the last property that a comment named
	// section is the struct whose entries follow, while listing.
	section string
	listing bool
}

func (r *reader) read(line string) {
	switch m := functionLine.FindStringSubmatch(line); {
	case m != nil:
		r.section, r.listing = m[1], true
		return
	case strings.HasPrefix(strings.TrimSpace(line), "synthesizeHclAttributes() {"):
		r.section, r.listing = "", true
		return
	case line == "}":
		r.listing = false
		return
	}
	if m := classLine.FindStringSubmatch(line); m != nil {
		r.class, r.property, r.listing = m[1], "", false
		r.b.properties[r.class] = make(map[string]property)
		return
	}
	if m := resourceLine.FindStringSubmatch(line); m != nil {
		r.b.resource, r.b.class = m[1], r.class
		return
	}
	if r.listing {
		r.readEntry(line)
	} else if r.class != "" {
		r.readProperty(line)
	}
}

func (r *reader) readProperty(line string) {
	properties := r.b.properties[r.class]
	if m := propertyLine.FindStringSubmatch(line); m != nil {
		r.property = m[1]
		properties[r.property] = property{computed: m[2] == "true", optional: m[3] == "true", required: m[4] == "true", getter: "dynamic"}
		return
	}
	p, known := properties[r.property]
	if !known {
		return
	}
	if m := getterLine.FindStringSubmatch(line); m != nil && m[2] == r.property {
		p.getter = getterType(m[1])
	}
	if m := referenceLine.FindStringSubmatch(line); m != nil && m[3] == r.property {
		p.of = m[1] + outputSuffix
		switch {
		case m[2] == "Map":
			p.collection = "map"
		case m[2] == "List" && m[4] == "true":
			p.collection = "set"
		case m[2] == "List":
			p.collection = "list"
		}
	}
	properties[r.property] = p
}

func (r *reader) readEntry(line string) {
	if m := entryLine.FindStringSubmatch(line); m != nil {
		r.b.entries[r.section] = append(r.b.entries[r.section], entry{name: m[1]})
		return
	}
	m := fieldLine.FindStringSubmatch(line)
	if m == nil || len(r.b.entries[r.section]) == 0 {
		return
	}
	e := &r.b.entries[r.section][len(r.b.entries[r.section])-1]
	switch text := strings.Trim(m[2], `"`); m[1] {
	case "value":
		e.value, e.writeOnly = text, strings.Contains(text, "markWriteOnlyAttribute")
		if call := structCall.FindStringSubmatch(text); call != nil {
			e.structName = call[1]
		}
	case "isBlock":
		e.nested = text == "true"
	case "type":
		e.kind = text
	case "storageClassType":
		e.storage = text
	}
}

// getterType returns the type behind a getter's name, such as NumberList.
func getterType(getter string) any {
	if element, ok := strings.CutSuffix(getter, "Map"); ok {
		return []any{"map", scalar(element)}
	}
	if element, ok := strings.CutSuffix(getter, "List"); ok {
		return []any{"list", scalar(element)}
	}
	return scalar(getter)
}

func scalar(name string) any {
	switch strings.ToLower(name) {
	case "number":
		return "number"
	case "boolean":
		return "bool"
	case "any":
		return "dynamic"
	default: // String, and lists of strings, whose getter is plain List
		return "string"
	}
}

// plainType returns the type of an entry that is no object.
func (e entry) plainType() any {
	storage := strings.TrimSuffix(strings.TrimSuffix(e.storage, "List"), "Map")
	switch {
	case e.kind == "map":
		return []any{"map", scalar(storage)}
	case e.kind == "set" || e.kind == "list":
		return []any{e.kind, scalar(storage)}
	case strings.HasSuffix(e.storage, "List"):
		return []any{"list", scalar(storage)}
	default:
		return scalar(storage)
	}
}

// wrap returns the type of a nested attribute with objects of the given type.
func (e entry) wrap(object any) any {
	if e.kind == "struct" {
		return object
	}
	return []any{e.kind, object}
}

// nest returns the entry as a block.
func (e entry) nest(block Block, required bool) Nested {
	n := Nested{Nesting: e.kind, Block: block}
	if e.kind == "struct" {
		n.Nesting = "single"
		return n
	}
	if required {
		n.Min = 1
	}
	if !strings.Contains(e.value, "listMapper") { // no list in the bindings, so at most one
		n.Max = 1
	}
	return n
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
