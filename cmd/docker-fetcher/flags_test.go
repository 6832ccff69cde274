package main

import (
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestDurationTakesGosFormAndTheOriginals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"60s": time.Minute, "1m30s": 90 * time.Second, "1.5h": 90 * time.Minute, "5ms": 5 * time.Millisecond, "1ns": 1,
		"90secs": 90 * time.Second, "1.5mins": 90 * time.Second, "2hrs": 2 * time.Hour,
		"30d": 720 * time.Hour, "2w": 336 * time.Hour, "1days": 24 * time.Hour, "2weeks": 14 * 24 * time.Hour, "0.2secs": 200 * time.Millisecond,
	} {
		var d duration
		if err := d.Set(text); err != nil || time.Duration(d) != want {
			t.Errorf("%s: got %v, %v, want %v", text, time.Duration(d), err, want)
		}
	}
}

func TestDurationRefusesOthersAndKeepsItsValue(t *testing.T) {
	t.Parallel()
	const form, sign = "want a duration such as 60s, 1.5m or 1mins", "want a duration above zero"
	for text, want := range map[string]string{
		"": form, "60": form, "soon": form, "mins": form, "1 mins": form, "1MINS": form, "1minutes": form,
		"NaNsecs": form, "Infsecs": form, "1e300weeks": form, "-1e300weeks": form, "99999999weeks": form,
		"0s": sign, "-1s": sign, "0mins": sign, "-1mins": sign, "1e-300secs": sign,
	} {
		d := duration(time.Second)
		if err := d.Set(text); err == nil || err.Error() != want || d != duration(time.Second) {
			t.Errorf("%q: got %v and %v, want %q", text, time.Duration(d), err, want)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, seed := range []string{"60s", "1.5mins", "-1weeks", "1e9days", "", "secs", "0x1p-2hrs"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := duration(time.Second)
		err := d.Set(text)
		if d <= 0 || err != nil && d != duration(time.Second) {
			t.Errorf("%q became %v, %v", text, time.Duration(d), err)
		}
		var again duration
		if err := again.Set(d.String()); err != nil || again != d {
			t.Errorf("%v prints as %s, which reads as %v, %v", time.Duration(d), d.String(), time.Duration(again), err)
		}
	})
}

func TestSizesAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]byteCount{
		"1": 1, "1024b": 1024, "10GB": 10e9, "10GiB": 10 << 30, "512M": 512 << 20, "512m": 512 << 20, "1.5 GiB": 3 << 29,
		"2kib": 2048, "2Ki": 2048, "1kB": 1000, "1T": 1 << 40, "8TB": 8e12,
	} {
		var n byteCount
		if err := n.Set(text); err != nil || n != want {
			t.Errorf("%s: got %d, %v, want %d", text, n, err, want)
		}
	}
	for _, text := range []string{"", "G", "0", "-1G", "0.1", "1PB", "1GBB", "1 0G", "NaN", "Inf", "1e30", "ten", "1Gibi", "1é"} {
		n := byteCount(7)
		if err := n.Set(text); err == nil || err.Error() != "want a size such as 10GiB, 500MB or 512M" || n != 7 {
			t.Errorf("%q: got %d, %v", text, n, err)
		}
	}
}

func FuzzByteCount(f *testing.F) {
	for _, seed := range []string{"10GiB", "1.5 kb", "", "9e18", "0x1p3K", "-1", "1_0K"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := byteCount(1)
		if err := n.Set(text); n < 1 || err != nil && n != 1 {
			t.Errorf("%q became %d, %v", text, n, err)
		}
		var again byteCount
		if err := again.Set(n.String()); err != nil || n < 1<<53 && again != n {
			t.Errorf("%d prints as %s, which reads as %d, %v", n, n.String(), again, err)
		}
	})
}

func TestPlatformIsNormalised(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"linux/arm64": "linux/arm64", "linux/aarch64": "linux/arm64", "linux/arm/v7": "linux/arm/v7", "windows/amd64": "windows/amd64",
	} {
		var p platform
		if err := p.Set(text); err != nil || p.String() != want {
			t.Errorf("%s: got %s, %v, want %s", text, p.String(), err, want)
		}
	}
	var p platform
	if err := p.Set("linux/arm64/v8/more"); err == nil || p.Platform != nil || p.String() != "" {
		t.Errorf("got %v, %v for a platform of four parts, want an error", p.Platform, err)
	}
}

func TestFlagsKnowTheOriginalsNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"docker_config": "default-docker-config", "docker-config": "docker-config",
		"docker_stall_timeout": "stall-timeout", "fetcher_stall_timeout": "stall-timeout", "stall-timeout": "stall-timeout",
		"max_concurrent_blobs": "max-concurrent-blobs",
	} {
		if got := string(originalNames(nil, name)); got != want {
			t.Errorf("--%s is --%s, want --%s", name, got, want)
		}
	}
}

// The help is what people see of a flag, so each says in words what it is for.
func TestEveryFlagHasAUsage(t *testing.T) {
	t.Parallel()
	walk(newCommand(true), func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no usage", cmd.CommandPath(), f.Name)
			}
		})
	})
}
