package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// serial tells one certificate from the next.
func serial(s *Source) string { return s.held.Load().own.Leaf.SerialNumber.String() }

func TestARenewedCertificateIsUsed(t *testing.T) {
	w := mustWorld(t)
	server, client := w.node("us-east"), w.node("eu-west")
	config, caller := server.PeerServer(deployment), client.PeerClient(Name{deployment, "us-east"})
	first := serial(server)
	w.mustMake(w.dir, deployment, 2*time.Hour)
	await(t, "the renewed certificate is held", func() bool { return serial(server) != first })
	if atServer, atClient := shake(t, config, caller); atServer != nil || atClient != nil {
		t.Errorf("configurations from before: %v, %v", atServer, atClient)
	}
	if n := w.count("punchclock.certificate.reload.failures", "use", "peer"); n != 0 {
		t.Errorf("%d rejected although all was in order", n)
	}
}

// TestAFolderIsSwapped replaces all files at one moment, as Kubernetes and
// careful scripts do: through a link to a folder.
func TestAFolderIsSwapped(t *testing.T) {
	w := mustWorld(t)
	root := t.TempDir()
	old, renewed, link := Dir(filepath.Join(root, "1")), Dir(filepath.Join(root, "2")), filepath.Join(root, "current")
	w.mustMake(old, deployment, time.Hour)
	w.mustMake(renewed, deployment, time.Hour)
	if err := os.Symlink("1", link); err != nil {
		t.Fatal(err)
	}
	certificate, key := Dir(link).Node("us-east")
	s := w.mustHold(Files{
		Certificate: File{certificate, "--certificate", "peer"}, Key: File{key, "--key", ""}, Authority: File{Dir(link).Authority(), "--authority", "authority"},
		Self: Name{deployment, "us-east"},
	})
	first := serial(s)
	if err := errors.Join(os.Symlink("2", link+".new"), os.Rename(link+".new", link)); err != nil {
		t.Fatal(err)
	}
	await(t, "the other folder is read", func() bool { return serial(s) != first })
}

func TestBadChangesAreNotTakenOver(t *testing.T) {
	w := mustWorld(t)
	files := w.files(w.dir, "us-east")
	files.Self = Name{deployment, "us-east"}
	s := w.byHand(files)
	first := serial(s)
	good, err := os.ReadFile(files.Certificate.Path)
	if err != nil {
		t.Fatal(err)
	}
	otherRegion, _ := w.dir.Node("eu-west")
	mismatched, err := os.ReadFile(otherRegion)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func() error{
		"nonsense":    func() error { return os.WriteFile(files.Certificate.Path, []byte("nonsense"), 0o600) },
		"half a file": func() error { return os.WriteFile(files.Certificate.Path, good[:len(good)/2], 0o600) },
		"no file":     func() error { return os.Remove(files.Certificate.Path) },
		"another key": func() error { return os.WriteFile(files.Certificate.Path, mismatched, 0o600) },
		"a block cut": func() error {
			return os.WriteFile(files.Certificate.Path, append(slices.Clone(good), mismatched[:len(mismatched)/2]...), 0o600)
		},
	} {
		before := w.count("punchclock.certificate.reload.failures", "use", "peer")
		if err := change(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.refresh(t.Context())
		}
		if n := w.count("punchclock.certificate.reload.failures", "use", "peer") - before; n != 2 || serial(s) != first {
			t.Errorf("%s: rejected at %d of three looks, want all but the first; the certificate was replaced: %t", what, n, serial(s) != first)
		}
		if err := os.WriteFile(files.Certificate.Path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		s.refresh(t.Context())
	}
	if said := w.log.String(); !strings.Contains(said, "not in order") || strings.Count(said, "not in order") != 5 {
		t.Errorf("each bad change is to be logged once, the log says:\n%s", said)
	}
	w.mustMake(w.dir, deployment, time.Hour)
	for range 2 {
		s.refresh(t.Context())
	}
	if serial(s) == first {
		t.Error("a good change after bad ones was not taken over")
	}
}

// byHand holds files that the test looks at, and not the Set at moments of its
// own.
func (w *world) byHand(files Files) *Source {
	w.t.Helper()
	contents, err := read(files)
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := parse(files, contents)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &Source{files: files, set: w.set, loaded: sumOf(contents, nil)}
	s.held.Store(h)
	return s
}

// TestACertificateOutOfItsTime does not replace one that holds, but a node
// starts with it: it is better than no node.
func TestACertificateOutOfItsTime(t *testing.T) {
	w := mustWorld(t)
	files := w.files(w.dir, "us-east")
	files.Self = Name{deployment, "us-east"}
	now := time.Now()
	for what, change := range map[string]struct {
		file        string
		from, until time.Duration
	}{
		"has ended":               {files.Certificate.Path, -2 * time.Hour, -time.Hour},
		"has not begun":           {files.Certificate.Path, time.Hour, 2 * time.Hour},
		"its authority has ended": {files.Authority.Path, -2 * time.Hour, -time.Hour},
	} {
		s := w.byHand(files)
		first, roots := serial(s), s.held.Load().roots
		good, err := os.ReadFile(change.file)
		if err != nil {
			t.Fatal(err)
		}
		before := w.count("punchclock.certificate.reload.failures", "use", "peer")
		w.mustSignAgain(change.file, files.Key.Path, now.Add(change.from), now.Add(change.until))
		s.refresh(t.Context())
		s.refresh(t.Context())
		if serial(s) != first || !s.held.Load().roots.Equal(roots) || w.count("punchclock.certificate.reload.failures", "use", "peer") <= before {
			t.Errorf("a certificate that %s replaced a good one, or is not told of", what)
		}
		said := strings.Count(w.log.String(), "others will refuse this certificate")
		w.node("us-east")
		if strings.Count(w.log.String(), "others will refuse this certificate") != said+1 {
			t.Errorf("nothing is said of a node that starts although its certificate %s:\n%s", what, w.log)
		}
		if err := writeFile(change.file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// mustSignAgain replaces the certificate in a file by one that holds at another
// time: the authority's own, or that of the key.
func (w *world) mustSignAgain(file, keyFile string, from, until time.Time) {
	w.t.Helper()
	a, err := openAuthority(string(w.dir), deployment)
	if err != nil {
		w.t.Fatal(err)
	}
	was, key := a.cert, a.key
	if file != w.dir.Authority() {
		pair, err := tls.LoadX509KeyPair(file, keyFile)
		if err != nil {
			w.t.Fatal(err)
		}
		was, key = pair.Leaf, pair.PrivateKey.(crypto.Signer)
	}
	template := *was
	template.SerialNumber, template.NotBefore, template.NotAfter = nil, from, until
	text, err := x509.CreateCertificate(rand.Reader, &template, a.cert, key.Public(), a.key)
	if err == nil {
		err = writeFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: text}), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestHalfAListOfAuthorities is a list all the same, and no reason to refuse
// those that the other half names.
func TestHalfAListOfAuthorities(t *testing.T) {
	w := mustWorld(t)
	next := Dir(t.TempDir())
	w.mustMake(next, deployment, time.Hour)
	own, err := os.ReadFile(w.dir.Authority())
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(next.Authority())
	if err != nil {
		t.Fatal(err)
	}
	files := w.files(w.dir, "us-east")
	files.Authority.Path, files.Self = filepath.Join(t.TempDir(), "authorities"), Name{deployment, "us-east"}
	both := slices.Concat(own, other)
	mustWrite := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(files.Authority.Path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustWrite(both)
	s := w.byHand(files)
	h := s.held.Load()
	mustWrite(both[:len(own)]) // between two certificates
	s.refresh(t.Context())
	if !s.held.Load().roots.Equal(h.roots) {
		t.Error("what was there for one look was taken over")
	}
	mustWrite(both[:len(own)+len(other)/2]) // in the middle of one, for good
	for range 3 {
		s.refresh(t.Context())
	}
	if !s.held.Load().roots.Equal(h.roots) || w.count("punchclock.certificate.reload.failures", "use", "peer") != 2 {
		t.Error("a list that is cut off was taken over, or is not told of")
	}
	mustWrite(own)
	s.refresh(t.Context())
	s.refresh(t.Context())
	if s.held.Load().roots.Equal(h.roots) {
		t.Error("a list that stands was not taken over")
	}
}

// TestTheAuthorityIsReplaced in three steps, as RUNBOOK.md has them, with a
// call after each.
func TestTheAuthorityIsReplaced(t *testing.T) {
	w := mustWorld(t)
	next := Dir(t.TempDir())
	w.mustMake(next, deployment, time.Hour)
	own := Dir(t.TempDir()) // what the nodes read
	w.mustMake(own, deployment, time.Hour)
	mustCopy := func(to string, from ...string) {
		t.Helper()
		var text []byte
		for _, f := range from {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, b...)
		}
		if err := writeFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authority := filepath.Join(t.TempDir(), "authorities.crt")
	mustCopy(authority, own.Authority())
	hold := func(region string) *Source {
		files := w.files(own, region)
		files.Authority.Path, files.Self = authority, Name{deployment, region}
		return w.mustHold(files)
	}
	server, client := hold("us-east"), hold("eu-west")
	mustCall := func(step string) {
		t.Helper()
		if atServer, atClient := shake(t, server.PeerServer(deployment), client.PeerClient(Name{deployment, "us-east"})); atServer != nil || atClient != nil {
			t.Errorf("%s: %v, %v", step, atServer, atClient)
		}
	}
	mustCall("before")
	settled := func(what string, done func(*Source) bool) {
		t.Helper()
		await(t, what, func() bool { return done(server) && done(client) })
	}

	before := server.held.Load().roots
	mustCopy(authority, own.Authority(), next.Authority())
	settled("both authorities are held", func(s *Source) bool { return !s.held.Load().roots.Equal(before) })
	mustCall("with both authorities")

	for i, s := range []*Source{server, client} {
		region, was := []string{"us-east", "eu-west"}[i], serial(s)
		certificate, key := next.Node(region)
		to, toKey := own.Node(region)
		mustCopy(toKey, key)
		mustCopy(to, certificate)
		await(t, "the new authority's certificate is held", func() bool { return serial(s) != was })
		mustCall("with " + region + " of the new authority")
	}

	both := server.held.Load().roots
	mustCopy(authority, next.Authority())
	settled("the old authority is gone", func(s *Source) bool { return !s.held.Load().roots.Equal(both) })
	mustCall("without the old authority")
	stale := w.files(w.dir, "eu-west")
	stale.Authority.Path = authority
	if atServer, _ := shake(t, server.PeerServer(deployment), w.mustHold(stale).PeerClient(Name{deployment, "us-east"})); atServer == nil {
		t.Error("a certificate of an authority that is gone was taken")
	}
}
