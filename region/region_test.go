package region

import (
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, s := range []string{"us-east", "eu1", "ap", "a" + strings.Repeat("b", 31)} {
		if n, err := ParseName(s); err != nil || string(n) != s {
			t.Errorf("ParseName(%q) = %q, %v; want it accepted", s, n, err)
		}
	}
	for _, s := range []string{"", "a", "A1", "1a", "a-", "-a", "a_b", "a b", "é1", "us\n", "a" + strings.Repeat("b", 32)} {
		if n, err := ParseName(s); err != ErrName || n != "" {
			t.Errorf("ParseName(%q) = %q, %v; want ErrName", s, n, err)
		}
	}
}
