package audit

import "fmt"

// row checks one stored row.
func (a *auditor) row(r *Row) {
	key := identity{r.Company, r.Employee, r.ID}
	h := a.histories[key]
	if h == nil {
		a.unknownRow(key, r)
		return
	}
	a.report.Rows++
	h.stored++
	a.checkRegion(key, h, r)
	a.checkContent(key, h, r)
	for _, req := range h.requests {
		if req.receipt == nil {
			continue
		}
		if d := receiptAgainstRow(req.receipt, r, a.moved(r.Company)); len(d) > 0 {
			a.addFault(key, h, Altered, "the receipt's "+d.String())
		}
	}
}

// unknownRow handles a row that is not in the ledger. The row belongs to this run if a node received it during the
// run, by the nodes' clocks. Otherwise another run sent it.
func (a *auditor) unknownRow(key identity, r *Row) {
	if r.ReceivedAt.Before(a.begin) || (!a.end.IsZero() && r.ReceivedAt.After(a.end)) {
		a.report.Ignored++
		return
	}
	a.addFault(key, nil, Unknown, fmt.Sprintf("a row in %s, but no request", r.Region))
}

// moved reports whether the company's home is no longer its first home. An old receipt may then name another region
// than the row.
func (a *auditor) moved(company string) bool {
	homes := a.homes[company]
	return len(homes) != 1 || homes[0].Epoch != 1
}

func (a *auditor) checkRegion(key identity, h *history, r *Row) {
	homes := a.homes[r.Company]
	if len(homes) != 1 {
		a.addFault(key, h, WrongRegion, fmt.Sprintf("the company has %d homes", len(homes)))
		return
	}
	if home := homes[0]; r.Region != home.Region && (home.MovingFrom == "" || r.Region != home.MovingFrom) {
		a.addFault(key, h, WrongRegion, fmt.Sprintf("the row is in %s, the home is %s", r.Region, home.Region))
	}
}

// checkContent compares the row with every claim that was sent under its identity. The row must hold one claim in
// full. It must agree in kind and instant with each acknowledged claim, and in full with the claim that was answered
// as new. It must not hold a claim that was refused for good and never acknowledged.
func (a *auditor) checkContent(key identity, h *history, r *Row) {
	acknowledged, fits := h.acknowledged(), false
	var misfit differences
	for _, req := range h.requests {
		d := claimAgainstRow(&req.claim, r)
		switch {
		case len(d) == 0:
			fits = true
			if !acknowledged && req.failure != nil && req.failure.Final {
				a.addFault(key, h, Contradicted, "refused as "+req.failure.Code+", but stored")
			}
		case req.receipt != nil && (!req.receipt.Replayed || !samePunch(&req.claim, r)):
			a.addFault(key, h, Altered, "the claim's "+d.String())
		default:
			misfit = d
		}
	}
	// If all answers were conflicts, an earlier run used the identity.
	if !fits && (acknowledged || !h.refusedAs(conflict)) {
		a.addFault(key, h, Altered, "the claim's "+misfit.String())
	}
}

// checkReceipts compares the receipts of one identity with the claims and with each other.
func (a *auditor) checkReceipts(key identity, h *history) {
	var first *Receipt
	crossed := false
	for _, req := range h.requests {
		r := req.receipt
		if r == nil {
			continue
		}
		if d := receiptAgainstClaim(r, &req.claim); len(d) > 0 {
			a.addFault(key, h, Altered, "the receipt's "+d.String())
		}
		if r.Replayed {
			a.report.Replayed++
		}
		crossed = crossed || r.EntryRegion != r.HomeRegion
		if first == nil {
			first = r
		} else if !r.RecordedAt.Equal(first.RecordedAt) || !r.ReceivedAt.Equal(first.ReceivedAt) {
			a.addFault(key, h, Doubled, "two receipts of different commits")
		}
	}
	if crossed {
		a.report.Crossed++
	}
}
