package client

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

var errPower = errors.New("loss of power")

// powerDisk is a disk in memory that can lose its power at any step. Content is durable once write returns. A name is
// durable once its folder was synced. Some of the other names survive, in the order of the changes in each folder. A
// journalled file system does the same, with one journal for all folders.
type powerDisk struct {
	random  *rand.Rand
	mu      sync.Mutex         // guards all below
	live    map[string]*[]byte // the files as a program sees them
	durable map[string]*[]byte // the files after a loss of power
	changes []change           // of names, not durable yet
	fuse    int                // steps until the loss of power; none if negative
	dead    bool
	steps   int
}

// change gives content a name, takes one away, or both.
type change struct {
	removed, added string
	content        *[]byte
}

func (c change) touches(dir string) bool {
	return c.added != "" && filepath.Dir(c.added) == dir || c.removed != "" && filepath.Dir(c.removed) == dir
}

func (c change) apply(names map[string]*[]byte) {
	if c.removed != "" {
		delete(names, c.removed)
	}
	if c.added != "" {
		names[c.added] = c.content
	}
}

func newPowerDisk(seed uint64) *powerDisk {
	return &powerDisk{random: rand.New(rand.NewPCG(seed, 1)), live: map[string]*[]byte{}, durable: map[string]*[]byte{}, fuse: -1}
}

// step begins a step under the mutex. If it returns errPower, the step may be half done.
func (d *powerDisk) step() error {
	if d.dead {
		return errPower
	}
	d.steps++
	if d.fuse == 0 {
		d.dead = true
		return errPower
	}
	d.fuse--
	return nil
}

func (d *powerDisk) change(c change) {
	c.apply(d.live)
	d.changes = append(d.changes, c)
}

// restart brings the power back.
func (d *powerDisk) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lost []change
	for _, c := range d.changes {
		behind := slices.ContainsFunc(lost, func(l change) bool {
			return l.added != "" && c.touches(filepath.Dir(l.added)) || l.removed != "" && c.touches(filepath.Dir(l.removed))
		})
		if behind || d.random.IntN(2) == 0 {
			lost = append(lost, c)
			continue
		}
		c.apply(d.durable)
	}
	d.live, d.changes, d.dead, d.fuse = maps.Clone(d.durable), nil, false, -1
}

func (d *powerDisk) lock(context.Context, string, time.Duration) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return func() {}, d.step() // the model test has one goroutine at a time
}

func (d *powerDisk) list(dir string) (names []string, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.live {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, d.step()
}

func (d *powerDisk) size(name string) (int64, error) {
	content, err := d.read(name, 1<<30)
	return int64(len(content)), err
}

func (d *powerDisk) read(name string, limit int) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	content, ok := d.live[filepath.Clean(name)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone((*content)[:min(len(*content), limit+1)]), nil
}

func (d *powerDisk) write(name string, content []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errPower
	}
	content = slices.Clone(content)
	err := d.step()
	if err != nil {
		content = content[:d.random.IntN(len(content)+1)]
	}
	d.change(change{added: filepath.Clean(name), content: &content})
	return err
}

func (d *powerDisk) append(name string, lines []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.step()
	if old, ok := d.live[name]; ok && err == nil {
		*old = append(*old, lines...)
	} else if err == nil {
		content := slices.Clone(lines)
		d.change(change{added: name, content: &content})
	}
	return err
}

func (d *powerDisk) rename(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	return d.do(from, func(content *[]byte) change { return change{from, to, content} })
}

func (d *powerDisk) remove(name string) error {
	name = filepath.Clean(name)
	return d.do(name, func(*[]byte) change { return change{removed: name} })
}

func (d *powerDisk) do(name string, what func(*[]byte) change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errPower
	}
	content, ok := d.live[name]
	if !ok {
		return fs.ErrNotExist
	}
	err := d.step()
	if err == nil || d.random.IntN(2) == 0 {
		d.change(what(content))
	}
	return err
}

func (d *powerDisk) sync(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	// Earlier changes in the same folders become durable as well.
	needed := map[string]bool{dir: true}
	keep := make([]bool, len(d.changes))
	for i, c := range slices.Backward(d.changes) {
		for name := range needed {
			keep[i] = keep[i] || c.touches(name)
		}
		if keep[i] {
			for _, name := range []string{c.added, c.removed} {
				if name != "" {
					needed[filepath.Dir(name)] = true
				}
			}
		}
	}
	var left []change
	for i, c := range d.changes {
		if keep[i] {
			c.apply(d.durable)
		} else {
			left = append(left, c)
		}
	}
	d.changes = left
	return nil
}

// damage flips a bit of a file, as worn flash memory does.
func (d *powerDisk) damage(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	content := *d.live[name]
	i := d.random.IntN(len(content))
	content[i] ^= 1 << d.random.IntN(8)
}

func (d *powerDisk) names(prefix string) (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.live {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
