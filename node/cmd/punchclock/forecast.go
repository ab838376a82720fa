package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/forecast"
)

// forecastCommand is `punchclock forecast`.
type forecastCommand struct {
	database
	JSON        bool    `help:"Print JSON, with each minute." xor:"form"`
	Terraform   bool    `help:"Print the peaks as Terraform's variable peaks, as JSON: live/peaks.json." xor:"form"`
	Split       bool    `help:"Split the ranges of companies that punch in large numbers, for today and tomorrow (UTC). CockroachDB only. The account needs the right to insert punches: punchclock_node has it." xor:"form"`
	MaxPunches  int64   `help:"Read no more than so many of last week's punches. The days that remain are named." default:"20000000"`
	NodeRate    float64 `help:"Punches a second that a node carries. The default is half of what six nodes and PostgreSQL acknowledged on one core; make bench measures yours." default:"${node_rate}"`
	ServerRate  float64 `help:"Punches a second that a database server carries. The default is a third of what three CockroachDB servers stored on two cores." default:"${server_rate}"`
	Headroom    float64 `help:"Capacity divided by expected load. The default leaves half for the busiest second and the loss of a zone." default:"${headroom}"`
	LeastNodes  int     `help:"Nodes that a region always has." default:"${least_nodes}"`
	LeastServer int     `name:"least-servers" help:"Database servers that a region always has." default:"${least_servers}"`
	SplitRate   float64 `help:"Punches a second of one company for each range. CockroachDB itself splits a range at about 2500 statements a second, but needs minutes." default:"500"`
}

// forecastDefaults are the defaults of the flags above.
func forecastDefaults() map[string]string {
	cfg := forecast.DefaultConfig()
	return map[string]string{
		"node_rate": fmt.Sprint(cfg.NodeRate), "server_rate": fmt.Sprint(cfg.ServerRate), "headroom": fmt.Sprint(cfg.Headroom),
		"least_nodes": fmt.Sprint(cfg.LeastNodes), "least_servers": fmt.Sprint(cfg.LeastServers),
	}
}

const daysOfWeek = 7

// Run implements the command.
func (c *forecastCommand) Run(ctx context.Context, out io.Writer) error {
	if c.MaxPunches < 1 || c.SplitRate <= 0 {
		return errors.New("--max-punches and --split-rate must be more than 0")
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	db, err := c.open(ctx, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	regions, err := db.Regions(ctx)
	if err != nil {
		return err
	}
	slices.Sort(regions)
	if c.Split {
		return c.split(ctx, db, regions, time.Now(), out)
	}
	return c.forecast(ctx, db, regions, time.Now(), out)
}

// gap is a day of last week of which the forecast knows nothing.
type gap struct {
	Region string `json:"region"`
	Day    string `json:"day"`
	Why    string `json:"why"`
}

func (c *forecastCommand) forecast(ctx context.Context, db *crdb.DB, regions []string, now time.Time, out io.Writer) error {
	cfg := forecast.DefaultConfig()
	cfg.From, cfg.NodeRate, cfg.ServerRate, cfg.Headroom = now, c.NodeRate, c.ServerRate, c.Headroom
	cfg.LeastNodes, cfg.LeastServers = c.LeastNodes, c.LeastServer
	counts, gaps, err := c.lastWeek(ctx, db, regions, now)
	if err != nil {
		return err
	}
	f, err := forecast.Make(cfg, regions, counts)
	if err != nil {
		return err
	}
	for _, g := range gaps { // also beside JSON, where a person may not look into it
		fmt.Fprintf(os.Stderr, "no data: %s on %s (UTC): %s\n", g.Region, g.Day, g.Why)
	}
	switch {
	case c.Terraform:
		peaks := make(map[string][]forecast.Schedule, len(regions))
		for i := range f.Regions {
			if peaks[f.Regions[i].Name], err = cfg.Schedules(&f.Regions[i]); err != nil {
				return err
			}
		}
		return printJSON(out, map[string]any{"peaks": peaks})
	case c.JSON:
		return printJSON(out, struct {
			forecast.Forecast
			NoData []gap `json:"no_data"`
		}{f, gaps})
	default:
		return printForecast(out, &f)
	}
}

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// lastWeek reads the punches of the last seven UTC days, the newest day first: if the bound is reached, the oldest days
// are missing.
func (c *forecastCommand) lastWeek(ctx context.Context, db *crdb.DB, regions []string, now time.Time) (counts []forecast.Count, gaps []gap, err error) {
	left, gaps := c.MaxPunches, []gap{}
	today := now.UTC().Truncate(24 * time.Hour)
	for ago := 1; ago <= daysOfWeek; ago++ {
		day := today.AddDate(0, 0, -ago)
		for _, home := range regions {
			missing := gap{Region: home, Day: day.Format("Mon 2006-01-02")}
			var list []crdb.Arrival
			complete := false
			if left > 0 {
				if list, complete, err = db.Arrivals(ctx, home, day, left); err != nil {
					return nil, nil, fmt.Errorf("punches of %s on %s: %w", home, missing.Day, err)
				}
			}
			if !complete { // a part of a day would look like a quiet day
				missing.Why = fmt.Sprintf("more than --max-punches=%d since then", c.MaxPunches)
				gaps, left = append(gaps, missing), 0
				continue
			}
			if len(list) == 0 {
				missing.Why = "no punches"
				gaps = append(gaps, missing)
			}
			for _, a := range list {
				left -= a.Punches
				counts = append(counts, forecast.Count{Home: home, Entry: a.Entry, Zone: a.Zone, Minute: a.Minute, Punches: a.Punches})
			}
		}
	}
	return counts, gaps, nil
}

func printForecast(out io.Writer, f *forecast.Forecast) error {
	fmt.Fprintf(out, "%s to %s, from last week's punches\n\n", f.From.Format(time.RFC3339), f.To.Format(time.RFC3339))
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "REGION\tBUSIEST MINUTE\tPUNCHES\tSTORED\tNODES\tSERVERS")
	for i := range f.Regions {
		r := &f.Regions[i]
		var busiest forecast.Minute
		for _, m := range r.Minutes {
			if m.Punches > busiest.Punches {
				busiest = m
			}
		}
		at := "-"
		if busiest.Punches > 0 {
			at = busiest.At.Format("Mon 2006-01-02 15:04 UTC")
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\n", r.Name, at, busiest.Punches, busiest.Stored, r.Nodes, r.Servers)
	}
	fmt.Fprintln(w, "\nREGION\tPEAK (UTC)\tZONE\tPUNCHES/MINUTE\tNODES\tSERVERS")
	for i := range f.Regions {
		for _, p := range f.Regions[i].Peaks {
			fmt.Fprintf(w, "%s\t%s to %s\t%s\t%d\t%d\t%d\n", f.Regions[i].Name, p.From.Format("Mon 2006-01-02 15:04"), p.To.Format("15:04"),
				p.Zone, p.Punches, p.Nodes, p.Servers)
		}
	}
	return w.Flush()
}

// split splits the ranges of companies whose busiest minute of a week ago needs more than one range.
func (c *forecastCommand) split(ctx context.Context, db *crdb.DB, regions []string, now time.Time, out io.Writer) error {
	if db.Engine != crdb.CockroachDB {
		_, err := fmt.Fprintf(out, "%s has no ranges: nothing to split\n", db.Engine)
		return err
	}
	today := now.UTC().Truncate(24 * time.Hour)
	found := 0
	for _, day := range []time.Time{today, today.AddDate(0, 0, 1)} {
		like := day.AddDate(0, 0, -daysOfWeek)
		expires := day.AddDate(0, 0, 2) // ids of the day may arrive for another day; then CockroachDB merges the ranges
		for _, home := range regions {
			crowds, err := db.Crowds(ctx, home, like, c.MaxPunches, int64(c.SplitRate*60))
			if err != nil {
				return fmt.Errorf("companies of %s on %s: %w", home, like.Format(time.DateOnly), err)
			}
			for _, crowd := range crowds {
				parts := int(float64(crowd.Busiest)/60/c.SplitRate) + 1
				borders, err := db.Split(ctx, home, crowd.Company, day, like, parts, expires)
				if err != nil {
					return err
				}
				found++
				fmt.Fprintf(out, "%s %s: %s split into %d ranges until %s\n", home, day.Format(time.DateOnly), crowd.Company, borders,
					expires.Format(time.RFC3339))
			}
		}
	}
	if found == 0 {
		_, err := fmt.Fprintf(out, "no company had %g punches a second a week ago: nothing to split\n", c.SplitRate)
		return err
	}
	return nil
}
