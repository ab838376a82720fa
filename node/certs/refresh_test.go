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

// serial identifies a certificate.
func serial(s *Source) string { return s.current.Load().own.Leaf.SerialNumber.String() }

func TestARenewedCertificateIsUsed(t *testing.T) {
	w := mustWorld(t)
	files := w.files(w.dir, "us-east")
	files.Self = Name{deployment, "us-east"}
	other := w.files(w.dir, "eu-west")
	other.Self = Name{deployment, "eu-west"}
	// Nothing checks the client's files, which are replaced one after the other. A check in between would be a failure.
	server, client := w.byHand(files), w.byHand(other)
	config, caller := server.PeerServer(deployment), client.PeerClient(Name{deployment, "us-east"})
	first := serial(server)
	w.mustMake(w.dir, deployment, 2*time.Hour)
	server.refresh(t.Context())
	if serial(server) != first {
		t.Error("one check was enough: a file that is being written may be read half")
	}
	server.refresh(t.Context())
	if serial(server) == first {
		t.Error("two checks did not load the renewed certificate")
	}
	if atServer, atClient := shake(t, config, caller); atServer != nil || atClient != nil {
		t.Errorf("configurations from before the renewal: %v, %v", atServer, atClient)
	}
	if n := w.count("punchclock.certificate.reload.failures", "certificate", "peer"); n != 0 {
		t.Errorf("%d reloads failed although all files were valid", n)
	}
}

// TestAFolderIsSwapped replaces all files at one moment through a link to a folder. Kubernetes does the same.
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
	s := w.mustLoad(Files{
		Certificate: File{certificate, "--certificate", "peer"}, Key: File{key, "--key", ""}, CA: File{Dir(link).CAFile(), "--ca", "ca"},
		Self: Name{deployment, "us-east"},
	})
	first := serial(s)
	if err := errors.Join(os.Symlink("2", link+".new"), os.Rename(link+".new", link)); err != nil {
		t.Fatal(err)
	}
	await(t, "the other folder is loaded", func() bool { return serial(s) != first })
}

func TestInvalidChangesAreNotLoaded(t *testing.T) {
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
		before := w.count("punchclock.certificate.reload.failures", "certificate", "peer")
		if err := change(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.refresh(t.Context())
		}
		if n := w.count("punchclock.certificate.reload.failures", "certificate", "peer") - before; n != 2 || serial(s) != first {
			t.Errorf("%s: rejected by %d of three checks, want all but the first; the certificate was replaced: %t", what, n, serial(s) != first)
		}
		if err := os.WriteFile(files.Certificate.Path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		s.refresh(t.Context())
	}
	if said := w.log.String(); !strings.Contains(said, "are invalid") || strings.Count(said, "are invalid") != 5 {
		t.Errorf("each invalid change must be logged once, and the log is:\n%s", said)
	}
	w.mustMake(w.dir, deployment, time.Hour)
	for range 2 {
		s.refresh(t.Context())
	}
	if serial(s) == first {
		t.Error("a valid change after invalid changes was not loaded")
	}
}

// byHand loads files that only the test checks, by calls of refresh.
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
	s.current.Store(h)
	return s
}

// TestAnExpiredCertificate does not replace a valid certificate. A node starts with it nevertheless, which is better than
// no node.
func TestAnExpiredCertificate(t *testing.T) {
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
		"has a CA that has ended": {files.CA.Path, -2 * time.Hour, -time.Hour},
	} {
		s := w.byHand(files)
		first, roots := serial(s), s.current.Load().roots
		good, err := os.ReadFile(change.file)
		if err != nil {
			t.Fatal(err)
		}
		before := w.count("punchclock.certificate.reload.failures", "certificate", "peer")
		w.mustSignAgain(change.file, files.Key.Path, now.Add(change.from), now.Add(change.until))
		s.refresh(t.Context())
		s.refresh(t.Context())
		counted := w.count("punchclock.certificate.reload.failures", "certificate", "peer") - before
		if serial(s) != first || !s.current.Load().roots.Equal(roots) || counted <= 0 {
			t.Errorf("a certificate that %s replaced a valid certificate, or was not counted", what)
		}
		said := strings.Count(w.log.String(), "others will refuse this certificate")
		w.node("us-east")
		if strings.Count(w.log.String(), "others will refuse this certificate") != said+1 {
			t.Errorf("the log misses a node that starts although its certificate %s:\n%s", what, w.log)
		}
		if err := writeFile(change.file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// mustSignAgain replaces the certificate in a file by the same certificate for another time. The file is the CA's, or that
// of the key.
func (w *world) mustSignAgain(file, keyFile string, from, until time.Time) {
	w.t.Helper()
	a, err := openCA(string(w.dir), deployment)
	if err != nil {
		w.t.Fatal(err)
	}
	was, key := a.cert, a.key
	if file != w.dir.CAFile() {
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

// TestHalfAListOfCAs cuts a file with two CAs. Half of it may be valid, and must not make the node refuse the
// certificates of the other CA.
func TestHalfAListOfCAs(t *testing.T) {
	w := mustWorld(t)
	next := Dir(t.TempDir())
	w.mustMake(next, deployment, time.Hour)
	own, err := os.ReadFile(w.dir.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(next.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	files := w.files(w.dir, "us-east")
	files.CA.Path, files.Self = filepath.Join(t.TempDir(), "cas"), Name{deployment, "us-east"}
	both := slices.Concat(own, other)
	mustWrite := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(files.CA.Path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustWrite(both)
	s := w.byHand(files)
	h := s.current.Load()
	mustWrite(both[:len(own)]) // between two certificates
	s.refresh(t.Context())
	if !s.current.Load().roots.Equal(h.roots) {
		t.Error("a content that only one check read was loaded")
	}
	mustWrite(both[:len(own)+len(other)/2]) // in the middle of one, for good
	for range 3 {
		s.refresh(t.Context())
	}
	if !s.current.Load().roots.Equal(h.roots) || w.count("punchclock.certificate.reload.failures", "certificate", "peer") != 2 {
		t.Error("a list that is cut off was loaded, or was not counted")
	}
	mustWrite(own)
	s.refresh(t.Context())
	s.refresh(t.Context())
	if s.current.Load().roots.Equal(h.roots) {
		t.Error("a list that two checks read was not loaded")
	}
}

// TestTheCAIsReplaced in the three steps of docs/operations/certificates.md, with a call after each step.
func TestTheCAIsReplaced(t *testing.T) {
	w := mustWorld(t)
	next := Dir(t.TempDir())
	w.mustMake(next, deployment, time.Hour)
	own := Dir(t.TempDir()) // the folder that the nodes read
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
	ca := filepath.Join(t.TempDir(), "cas.crt")
	mustCopy(ca, own.CAFile())
	load := func(region string) *Source {
		files := w.files(own, region)
		files.CA.Path, files.Self = ca, Name{deployment, region}
		return w.mustLoad(files)
	}
	server, client := load("us-east"), load("eu-west")
	mustCall := func(step string) {
		t.Helper()
		atServer, atClient := shake(t, server.PeerServer(deployment), client.PeerClient(Name{deployment, "us-east"}))
		if atServer != nil || atClient != nil {
			t.Errorf("%s: %v, %v", step, atServer, atClient)
		}
	}
	mustCall("before")
	settled := func(what string, done func(*Source) bool) {
		t.Helper()
		await(t, what, func() bool { return done(server) && done(client) })
	}

	before := server.current.Load().roots
	mustCopy(ca, own.CAFile(), next.CAFile())
	settled("both CAs are loaded", func(s *Source) bool { return !s.current.Load().roots.Equal(before) })
	mustCall("with both CAs")

	for i, s := range []*Source{server, client} {
		region, was := []string{"us-east", "eu-west"}[i], serial(s)
		certificate, key := next.Node(region)
		to, toKey := own.Node(region)
		mustCopy(toKey, key)
		mustCopy(to, certificate)
		await(t, "the new CA's certificate is loaded", func() bool { return serial(s) != was })
		mustCall("with " + region + " of the new CA")
	}

	both := server.current.Load().roots
	mustCopy(ca, next.CAFile())
	settled("the old CA is gone", func(s *Source) bool { return !s.current.Load().roots.Equal(both) })
	mustCall("without the old CA")
	stale := w.files(w.dir, "eu-west")
	stale.CA.Path = ca
	if atServer, _ := shake(t, server.PeerServer(deployment), w.mustLoad(stale).PeerClient(Name{deployment, "us-east"})); atServer == nil {
		t.Error("a certificate of the removed CA was accepted")
	}
}
