package integration_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/integration/registry"
	"github.com/docker-fetcher/docker-fetcher/plugin"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func TestPrometheusReadsTheMetricsOfThePlugin(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "df") // short: a socket's path is
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	socket := filepath.Join(dir, "metrics.sock")
	client, err := plugin.Open(t.Context(), plugin.Config{Path: executable, Args: []string{"--metrics", "unix:" + socket}})
	check(t, err)
	t.Cleanup(func() { check(t, client.Close()) })
	s := start(t, registry.Config{}, "oci-index")
	r := request(t, scheme.Image, s.Host, "oci-index", fetcher.DockerConfig{})
	r.Directory = t.TempDir()
	_, err = client.Fetch(t.Context(), r)
	check(t, err)

	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://plugin/metrics", nil)
	check(t, err)
	resp, err := transport.RoundTrip(ask)
	check(t, err)
	defer resp.Body.Close()
	if format := expfmt.ResponseFormat(resp.Header); format.FormatType() != expfmt.TypeTextPlain {
		t.Errorf("the format is %q", format)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	check(t, err)
	fetches := families["docker_fetcher_fetches_total"]
	if len(fetches.GetMetric()) != 1 || fetches.GetMetric()[0].GetCounter().GetValue() != 1 {
		t.Errorf("fetches: %v", fetches)
	}
	for name, f := range families {
		if strings.HasPrefix(name, "docker_fetcher_") && f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
}
