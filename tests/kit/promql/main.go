// Reads scrapes of /metrics and PromQL, alone or in a file of alert rules, and says what Prometheus makes of them: its
// own parsers and engine do the work. JSON in on standard input, JSON out on standard output.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// What /metrics said so many seconds after the beginning, and the labels that Prometheus gives to its target.
type scrape struct {
	At     int64             `json:"at"`
	Text   string            `json:"text"`
	Labels map[string]string `json:"labels"`
}

type request struct {
	Scrapes []scrape `json:"scrapes"`
	// When it is asked.
	At      int64    `json:"at"`
	Queries []string `json:"queries"`
	// A file of rules.
	Rules string `json:"rules"`
}

type sample struct {
	Labels map[string]string `json:"labels"`
	Value  string            `json:"value"`
}

// A selector of an expression, and how many series it has ever matched.
type selector struct {
	Text   string `json:"text"`
	Series int    `json:"series"`
}

type answer struct {
	Alert       string            `json:"alert,omitempty"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Query       string            `json:"query"`
	Error       string            `json:"error,omitempty"`
	Result      []sample          `json:"result"`
	Selectors   []selector        `json:"selectors"`
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

type point struct {
	at    int64
	value float64
}

func (p point) T() int64                    { return p.at }
func (point) ST() int64                     { return 0 }
func (p point) F() float64                  { return p.value }
func (point) H() *histogram.Histogram       { return nil }
func (point) FH() *histogram.FloatHistogram { return nil }
func (point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample         { return p }

// All series, in memory.
type memory map[string]*series

func (m memory) take(s scrape) error {
	text, err := textparse.New([]byte(s.Text), "application/openmetrics-text; version=1.0.0", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	for {
		entry, err := text.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := text.Series()
		var of labels.Labels
		text.Labels(&of)
		builder := labels.NewBuilder(of)
		for name, value := range s.Labels {
			builder.Set(name, value)
		}
		of = builder.Labels()
		one, known := m[of.String()]
		if !known {
			one = &series{labels: of}
			m[of.String()] = one
		}
		one.samples = append(one.samples, point{s.At * 1000, value})
	}
}

func (m memory) matching(matchers []*labels.Matcher) []*series {
	var found []*series
	for _, one := range m {
		if !slices.ContainsFunc(matchers, func(by *labels.Matcher) bool { return !by.Matches(one.labels.Get(by.Name)) }) {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	return found
}

func (m memory) Querier(_, _ int64) (storage.Querier, error) { return querier{m}, nil }

type querier struct{ memory }

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := q.matching(matchers)
	set := make([]storage.Series, 0, len(found))
	for _, one := range found {
		set = append(set, storage.NewListSeries(one.labels, one.samples))
	}
	return &list{series: set, at: -1}
}

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (querier) Close() error { return nil }

type list struct {
	series []storage.Series
	at     int
}

func (l *list) Next() bool                        { l.at++; return l.at < len(l.series) }
func (l *list) At() storage.Series                { return l.series[l.at] }
func (l *list) Err() error                        { return nil }
func (l *list) Warnings() annotations.Annotations { return nil }

// What the engine makes of an expression.
func ask(engine *promql.Engine, all memory, query string, at int64) answer {
	said := answer{Query: query, Result: []sample{}, Selectors: []selector{}}
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		said.Error = err.Error()
		return said
	}
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		if of, is := node.(*parser.VectorSelector); is {
			said.Selectors = append(said.Selectors, selector{of.String(), len(all.matching(of.LabelMatchers))})
		}
		return nil
	})
	asked, err := engine.NewInstantQuery(context.Background(), all, nil, query, time.Unix(at, 0))
	if err != nil {
		said.Error = err.Error()
		return said
	}
	defer asked.Close()
	result := asked.Exec(context.Background())
	if result.Err != nil {
		said.Error = result.Err.Error()
		return said
	}
	switch values := result.Value.(type) {
	case promql.Vector:
		for _, value := range values {
			if !math.IsNaN(value.F) {
				said.Result = append(said.Result, sample{value.Metric.Map(), strconv.FormatFloat(value.F, 'f', -1, 64)})
			}
		}
	default:
		said.Error = fmt.Sprintf("it is a %s, not a vector", values.Type())
	}
	return said
}

func run() error {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	all := memory{}
	for _, one := range asked.Scrapes {
		if err := all.take(one); err != nil {
			return fmt.Errorf("what /metrics says cannot be read: %w", err)
		}
	}
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1_000_000, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	answers := []answer{}
	for _, query := range asked.Queries {
		answers = append(answers, ask(engine, all, query, asked.At))
	}
	if asked.Rules != "" {
		groups, problems := rulefmt.Parse([]byte(asked.Rules), false, model.UTF8Validation, parser.NewParser(parser.Options{}), nil)
		if len(problems) > 0 {
			return fmt.Errorf("the rules: %w", errors.Join(problems...))
		}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				said := ask(engine, all, rule.Expr, asked.At)
				said.Alert, said.For = rule.Alert, rule.For.String()
				said.Labels, said.Annotations = rule.Labels, rule.Annotations
				answers = append(answers, said)
			}
		}
	}
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(answers); err != nil {
		return err
	}
	_, err := out.WriteTo(os.Stdout)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
