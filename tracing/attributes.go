package tracing

import "go.opentelemetry.io/otel/attribute"

// The attributes of Punchclock's spans. Company may appear on spans and in logs, never on a metric: the number of
// companies has no limit.
const (
	HomeRegion      = attribute.Key("punchclock.home_region")
	EntryRegion     = attribute.Key("punchclock.entry_region")
	Company         = attribute.Key("punchclock.company")
	Epoch           = attribute.Key("punchclock.epoch")            // the home's epoch at the time of routing
	Attempt         = attribute.Key("punchclock.attempt")          // starts at 1
	Dispatch        = attribute.Key("punchclock.dispatch")         // 1, or 2 after NotHome
	BatchSize       = attribute.Key("punchclock.batch.size")       // items in the batch
	BatchSampled    = attribute.Key("punchclock.batch.sampled")    // sampled items in the batch
	Replayed        = attribute.Key("punchclock.replayed")         // true if an earlier request committed the punch
	Code            = attribute.Key("punchclock.code")             // the code of a refusal
	CandidateNode   = attribute.Key("punchclock.candidate.node")   // the node that the router chose
	CandidateRegion = attribute.Key("punchclock.candidate.region") // the region of that node
	CandidateLocal  = attribute.Key("punchclock.candidate.local")  // true if this node writes
	QueueDepth      = attribute.Key("punchclock.queue.depth")      // items that waited before this item
)
