package auth

import "testing"

func TestWhatRolesMayDo(t *testing.T) {
	tests := []struct {
		role                                 Role
		punchOwn, punchOther, readOwn, other bool
		operate                              bool
	}{
		{role: Employee, punchOwn: true, readOwn: true},
		{role: Kiosk, punchOwn: true, punchOther: true},
		{role: Manager, punchOwn: true, punchOther: true, readOwn: true, other: true},
		{role: Operator, punchOwn: true, punchOther: true, readOwn: true, other: true, operate: true},
		{role: ""},
		{role: "root"},
	}
	for _, tt := range tests {
		id := Identity{Company: "acme", Subject: "auth0|5f7c", Role: tt.role}
		if tt.role == Employee {
			id.Employee = "e-1"
		}
		for _, check := range []struct {
			what      string
			got, want bool
		}{
			{"MayPunch(self)", id.MayPunch("e-1"), tt.punchOwn},
			{"MayPunch(other)", id.MayPunch("e-2"), tt.punchOther},
			{"MayRead(self)", id.MayRead("e-1"), tt.readOwn},
			{"MayRead(other)", id.MayRead("e-2"), tt.other},
			{"MayOperate", id.MayOperate(), tt.operate},
		} {
			if check.got != check.want {
				t.Errorf("role %q: %s = %t, want %t", tt.role, check.what, check.got, check.want)
			}
		}
	}
}
