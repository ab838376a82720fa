package tracing

import "go.opentelemetry.io/otel/attribute"

// The attributes of Punchclock's spans. Company may stand on spans and in logs,
// never on a metric: there is no bound to the number of companies.
const (
	HomeRegion      = attribute.Key("punchclock.home_region")
	EntryRegion     = attribute.Key("punchclock.entry_region")
	Company         = attribute.Key("punchclock.company")
	Epoch           = attribute.Key("punchclock.epoch")            // the home's, under which the punch was routed
	Attempt         = attribute.Key("punchclock.attempt")          // from 1
	Dispatch        = attribute.Key("punchclock.dispatch")         // 1, or 2 after NotHome
	BatchSize       = attribute.Key("punchclock.batch.size")       // items in the batch
	BatchSampled    = attribute.Key("punchclock.batch.sampled")    // items of it that are traced
	Replayed        = attribute.Key("punchclock.replayed")         // true: committed by an earlier request
	Code            = attribute.Key("punchclock.code")             // of a refusal
	CandidateNode   = attribute.Key("punchclock.candidate.node")   // whom the router chose
	CandidateRegion = attribute.Key("punchclock.candidate.region") // and where that is
	CandidateLocal  = attribute.Key("punchclock.candidate.local")  // true: this node writes itself
	Lane            = attribute.Key("punchclock.lane")             // the lane's index within its home
	QueueDepth      = attribute.Key("punchclock.queue.depth")      // items waiting when this one came
)
