package certs

import (
	"errors"
	"os"
	"path/filepath"
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
	if n := w.count("punchclock.certificate.rejected", "use", "peer"); n != 0 {
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
	s := w.mustHold(files)
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
	} {
		before := w.count("punchclock.certificate.rejected", "use", "peer")
		if err := change(); err != nil {
			t.Fatal(err)
		}
		await(t, what+" is counted", func() bool { return w.count("punchclock.certificate.rejected", "use", "peer") > before })
		if serial(s) != first {
			t.Errorf("%s replaced the certificate", what)
		}
		if err := os.WriteFile(files.Certificate.Path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		await(t, "the mended file is noticed", func() bool {
			n := w.count("punchclock.certificate.rejected", "use", "peer")
			time.Sleep(30 * time.Millisecond) // some looks: a broken file would be counted again
			return w.count("punchclock.certificate.rejected", "use", "peer") == n
		})
	}
	if said := w.log.String(); !strings.Contains(said, "not in order") || strings.Count(said, "not in order") != 4 {
		t.Errorf("each bad change is to be logged once, the log says:\n%s", said)
	}
}

// TestAnExpiredCertificate does not replace one that still holds, but a node
// starts with it: it is better than no node.
func TestAnExpiredCertificate(t *testing.T) {
	w := mustWorld(t)
	s := w.node("us-east")
	first := serial(s)
	w.mustMake(w.dir, deployment, time.Nanosecond)
	await(t, "it is rejected", func() bool { return w.count("punchclock.certificate.rejected", "use", "peer") > 0 })
	if serial(s) != first {
		t.Error("an expired certificate replaced a good one")
	}
	w.node("us-east")
	if !strings.Contains(w.log.String(), "the certificate has expired") {
		t.Errorf("nothing is said of a node that starts with an expired certificate:\n%s", w.log)
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
