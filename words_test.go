package punchclock_test

import (
	"go/ast"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	maxSentenceWords = 25  // a reader must not go back to the beginning of a sentence
	maxTextColumns   = 120 // two windows side by side, and a terminal at night
)

// vague are words that point at something without naming it.
var vague = regexp.MustCompile(`(?i)\b(whoever|nobody|somebody|that one|those that|those who|what (?:is|was) (?:there|left)|what it (?:has|had|held|holds|accepted)|(?:is|are|was|were) to be)\b`)

// prose is one run of text: a comment, a flag's help or a paragraph of a document.
type prose struct {
	file string
	line int
	text string
	// tag is set for a flag's help, which stands in one line of code.
	tag bool
}

// TestTextIsPlain holds the section "Words" of CONTRIBUTING.md for comments, flags' help and documents.
func TestTextIsPlain(t *testing.T) {
	words, hits := 0, 0
	for _, p := range slices.Concat(goProse(t), fileProse(t)) {
		words += len(strings.Fields(p.text))
		for _, match := range vague.FindAllString(inlineCode.ReplaceAllString(p.text, "CODE"), -1) {
			hits++
			t.Errorf("%s:%d: %q points at something without a name. Name the thing.", p.file, p.line, match)
		}
		for _, sentence := range sentences(p.text) {
			if n := len(strings.Fields(sentence)); n > maxSentenceWords {
				t.Errorf("%s:%d: a sentence of %d words, more than %d. Make two of it: %q", p.file, p.line, n, maxSentenceWords, sentence)
			}
		}
		for i, line := range strings.Split(p.text, "\n") {
			if n := utf8.RuneCountInString(line); n > maxTextColumns && !p.tag && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("%s:%d: a line of %d columns, more than %d.", p.file, p.line+i, n, maxTextColumns)
			}
		}
	}
	t.Logf("%d words, %d vague expressions", words, hits)
}

// goProse returns the comments and the flags' help of every Go file that is written by hand.
func goProse(t *testing.T) (list []prose) {
	for _, f := range sources(t) {
		if f.generated {
			continue
		}
		for _, group := range f.ast.Comments {
			// Text leaves out directives such as go:embed and nolint. The columns are those of the file.
			list = append(list, prose{file: f.path, line: f.fset.Position(group.Pos()).Line, text: withoutBlocks(group.Text())})
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			if tag, err := strconv.Unquote(field.Tag.Value); err == nil {
				if help := reflect.StructTag(tag).Get("help"); help != "" {
					list = append(list, prose{file: f.path, line: f.fset.Position(field.Pos()).Line, text: help, tag: true})
				}
			}
			return true
		})
	}
	return list
}

// withoutBlocks empties the lines of code blocks and of lists of names in a comment.
func withoutBlocks(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "    ") {
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

// fileProse returns the text of documents, and the comments of everything else that is written by hand.
func fileProse(t *testing.T) (list []prose) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") && base != ".ci" && base != ".github" || base == "testdata" || base == "node_modules" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		read := reader(base)
		if read == nil {
			return nil
		}
		text, err := os.ReadFile(name)
		if err == nil {
			list = append(list, read(filepath.ToSlash(name), string(text))...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// reader returns what reads the prose of a file with this name, nil when it has none.
func reader(base string) func(name, text string) []prose {
	switch ext := path.Ext(base); {
	case base == "LICENSE":
		return nil
	case ext == ".md":
		return paragraphs
	case ext == ".sql":
		return commentLines("--")
	case base == "Makefile", slices.Contains([]string{"", ".tf", ".hcl", ".tftpl", ".yaml", ".yml", ".service", ".timer", ".sh"}, ext):
		return commentLines("#")
	default:
		return nil
	}
}

// commentLines joins neighbouring lines that begin with the mark.
func commentLines(mark string) func(name, text string) []prose {
	return func(name, text string) (list []prose) {
		open := false
		for i, line := range strings.Split(text, "\n") {
			comment, found := strings.CutPrefix(strings.TrimSpace(line), mark)
			comment = strings.TrimPrefix(comment, " ")
			switch {
			case !found || strings.HasPrefix(comment, "!"):
				open = false
			case open:
				list[len(list)-1].text += "\n" + comment
			default:
				open = true
				list = append(list, prose{file: name, line: i + 1, text: comment})
			}
		}
		return list
	}
}

var (
	listItem = regexp.MustCompile(`^\s*([-*]|\d+\.)\s+`)
	tableRow = regexp.MustCompile(`^\s*\|`)
)

// paragraphs splits a Markdown document. Code blocks are left out; a list item, a heading and a cell of a table each
// stand alone.
func paragraphs(name, text string) (list []prose) {
	code, open := false, false
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			code, open = !code, false
		case code || trimmed == "":
			open = false
		case tableRow.MatchString(line):
			open = false
			for cell := range strings.SplitSeq(strings.Trim(trimmed, "|"), "|") {
				list = append(list, prose{file: name, line: i + 1, text: strings.TrimSpace(cell)})
			}
		case open && !listItem.MatchString(line) && !strings.HasPrefix(trimmed, "#"):
			list[len(list)-1].text += "\n" + line
		default:
			open = !strings.HasPrefix(trimmed, "#")
			list = append(list, prose{file: name, line: i + 1, text: line})
		}
	}
	return list
}

var (
	inlineCode = regexp.MustCompile("`[^`]*`")
	link       = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	// A sentence ends at a full stop, a question mark, an exclamation mark or a colon before a space. A paragraph and
	// a list item end it as well.
	sentenceEnd = regexp.MustCompile(`[.!?:]["')*]*(\s+|$)|\n\s*\n|\n\s*[-*] `)
	abbreviated = regexp.MustCompile(`\b(e\.g|i\.e|etc|vs|cf|approx)\.`)
)

// sentences splits text into sentences, each with its words in single spaces. Code counts as one word.
func sentences(text string) (list []string) {
	text = inlineCode.ReplaceAllString(text, "CODE")
	text = link.ReplaceAllString(text, "$1")
	text = abbreviated.ReplaceAllString(text, "$1")
	for _, s := range sentenceEnd.Split(text, -1) {
		words := slices.DeleteFunc(strings.Fields(s), func(word string) bool { return !strings.ContainsFunc(word, unicode.IsLetter) })
		if len(words) > 0 {
			list = append(list, strings.Join(words, " "))
		}
	}
	return list
}
