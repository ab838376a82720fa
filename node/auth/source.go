package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxKeySet bounds a key set in bytes: a hundred RSA keys with certificates.
	maxKeySet = 1 << 20
	// fetchTimeout bounds one read of a key set. A caller with an unknown key waits for the read, which must leave most
	// of a punch's deadline.
	fetchTimeout = 5 * time.Second
)

// source is a place where a key set is published, and the rate at which it may be read.
type source struct {
	name string
	read func(ctx context.Context) ([]byte, error)
	// period is the time between two regular reads. A removed key is refused after at most one period.
	period time.Duration
	// onDemand is the least time between two reads that tokens with an unknown key cause. Callers must not be able to
	// flood the source.
	onDemand time.Duration
}

func newSource(location string) source {
	if strings.HasPrefix(location, "https://") || strings.HasPrefix(location, "http://") {
		return source{
			name: location, read: urlReader(location),
			// The usual max-age of published key sets is 5 to 15 minutes.
			period: 5 * time.Minute,
			// Issuers publish a new key minutes before they use it.
			onDemand: 10 * time.Second,
		}
	}
	return source{
		name: location, read: fileReader(location),
		// Reading a small file costs microseconds. Unlike a watch on the file, it notices every way of replacing it.
		period: 5 * time.Second, onDemand: time.Second,
	}
}

func fileReader(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // nothing was written
		return readBounded(f)
	}
}

func urlReader(url string) func(context.Context) ([]byte, error) {
	client := &http.Client{
		// Each request has a new connection. Requests are minutes apart, so an idle connection may have died unnoticed.
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		// No redirects: they could lead from https to http, or to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/jwk-set+json, application/json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close() //nolint:errcheck // nothing was written
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("answered %s", resp.Status)
		}
		return readBounded(resp.Body)
	}
}

func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err == nil && len(b) > maxKeySet {
		err = fmt.Errorf("is larger than %d bytes", maxKeySet)
	}
	return b, err
}

// replaceFile writes b to path so that a reader sees the old or the new content, and never a part. google/renameio does
// not build on Windows, where devices run this binary.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
