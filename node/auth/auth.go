// Package auth turns a bearer token into an Identity, and an Identity into permissions. It issues tokens for
// development alone, knows no HTTP statuses and never reads a database. DESIGN.md gives the reasons.
package auth

// Role says what a token is for.
type Role string

// The roles. Each one allows more than the one before it, with one exception: a kiosk has no punches of its own to read.
const (
	Employee Role = "employee" // punches for itself and reads its own punches
	Kiosk    Role = "kiosk"    // punches for every employee of its company
	Manager  Role = "manager"  // also reads the punches of every employee of its company
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

// Identity is a caller whose token has been verified. Company is a valid company id and Role is one of the four.
type Identity struct {
	Company string
	// Subject names the caller at the identity provider, such as auth0|5f7c. It is opaque: nothing may be derived from
	// it. It has 1 to 255 bytes of UTF-8 without control characters.
	Subject string
	// Employee is a valid employee id when Role is Employee, and empty otherwise.
	Employee string
	Role     Role
}

// MayPunch reports whether the caller may record punches of the employee.
func (i Identity) MayPunch(employee string) bool {
	if i.Role == Employee {
		return i.Employee == employee
	}
	return validRole(i.Role)
}

// MayRead reports whether the caller may read punches of the employee.
func (i Identity) MayRead(employee string) bool {
	switch i.Role {
	case Employee:
		return i.Employee == employee
	case Manager, Operator:
		return true
	default:
		return false
	}
}

// MayOperate reports whether the caller may administer.
func (i Identity) MayOperate() bool { return i.Role == Operator }
