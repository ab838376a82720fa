// Package auth answers who is calling: it turns a bearer token into an
// Identity, and an Identity into what it may do. It does not issue tokens in
// production, knows no HTTP statuses and never looks into a database.
package auth

// Role says what a token is for.
type Role string

// The roles, each allowing more than the one before it, except that a kiosk
// has no punches of its own to read.
const (
	Employee Role = "employee" // punches for itself and reads its own
	Kiosk    Role = "kiosk"    // punches for anyone in its company
	Manager  Role = "manager"  // also reads anyone's in its company
	Operator Role = "operator" // also administers
)

func validRole(r Role) bool {
	switch r {
	case Employee, Kiosk, Manager, Operator:
		return true
	default:
		return false
	}
}

// Identity is a caller whose token has been verified. Company and Subject are
// valid names and Role is one of the four.
type Identity struct {
	Company string
	Subject string // the employee, the kiosk's name or the person's
	Role    Role
}

// MayPunch reports whether the caller may record punches of the employee.
func (i Identity) MayPunch(employee string) bool {
	if i.Role == Employee {
		return i.Subject == employee
	}
	return validRole(i.Role)
}

// MayRead reports whether the caller may read punches of the employee.
func (i Identity) MayRead(employee string) bool {
	switch i.Role {
	case Employee:
		return i.Subject == employee
	case Manager, Operator:
		return true
	default:
		return false
	}
}

// MayOperate reports whether the caller may administer.
func (i Identity) MayOperate() bool { return i.Role == Operator }
