package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/spf13/pflag"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
)

// originalNames gives flags the names that Mesos' operators know as well.
func originalNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "docker_config":
		name = "default-docker-config"
	case "docker_stall_timeout", "fetcher_stall_timeout":
		name = "stall-timeout"
	}
	return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
}

// fromEnvironment sets the flags that the command line did not, from
// DOCKER_FETCHER_<NAME>; an empty variable is none.
func fromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := variable(f.Name)
		value := os.Getenv(name)
		if f.Changed || value == "" || f.Name == "help" || f.Name == "version" || failed != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = usageError{fmt.Errorf("environment variable %s: %w", name, err)}
		}
	})
	return failed
}

// The types below are pflag.Values: a value that is wrong is refused where it
// is read, whether it comes from the command line or from the environment.

// choice is one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }

// Type implements pflag.Value.
func (c *choice) Type() string { return "string" }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		last := len(c.of) - 1
		return errors.New("want " + strings.Join(c.of[:last], ", ") + " or " + c.of[last])
	}
	c.value = s
	return nil
}

// count is a number above zero.
type count int

func (c *count) String() string { return strconv.Itoa(int(*c)) }

// Type implements pflag.Value.
func (c *count) Type() string { return "int" }

// Set implements pflag.Value.
func (c *count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return errors.New("want a number of at least 1")
	}
	*c = count(n)
	return nil
}

// platform is OS/ARCH[/VARIANT]; nil says nothing.
type platform struct{ *fetcher.Platform }

func (p *platform) String() string {
	if p.Platform == nil {
		return ""
	}
	return platforms.Format(*p.Platform)
}

// Type implements pflag.Value.
func (p *platform) Type() string { return "platform" }

// Set implements pflag.Value.
func (p *platform) Set(s string) error {
	parsed, err := platforms.Parse(s)
	if err != nil {
		return errors.New("want OS/ARCH[/VARIANT], such as linux/arm64")
	}
	p.Platform = &parsed
	return nil
}

// duration is in Go's form (90s) or in the original's (90secs, 1.5mins).
type duration time.Duration

func (d *duration) String() string { return time.Duration(*d).String() }

// Type implements pflag.Value.
func (d *duration) Type() string { return "duration" }

// Set implements pflag.Value.
func (d *duration) Set(s string) error {
	parsed, err := time.ParseDuration(s)
	if err != nil {
		parsed, err = originalDuration(s)
	}
	if err == nil && parsed <= 0 {
		err = errors.New("want a duration above zero")
	}
	if err != nil {
		return err
	}
	*d = duration(parsed)
	return nil
}

// units are those of the original's Duration that Go does not know, and days and
// weeks as people write them.
var units = map[string]time.Duration{
	"secs": time.Second, "mins": time.Minute, "hrs": time.Hour, "days": 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
	"d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

func originalDuration(s string) (time.Duration, error) {
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.ParseFloat(number, 64)
	unit, known := units[s[len(number):]]
	if err != nil || !known || !(math.Abs(n)*float64(unit) < math.MaxInt64) { // NaN too
		return 0, errors.New("want a duration such as 60s, 1.5m or 1mins")
	}
	return time.Duration(n * float64(unit)), nil
}

// byteCount is a number of bytes above zero, as people write it: 512M, 10GB, 1.5GiB.
type byteCount int64

func (n *byteCount) String() string {
	if *n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*n), 10)
}

// Type implements pflag.Value.
func (n *byteCount) Type() string { return "size" }

// Set implements pflag.Value. K, M, G and T are powers of 1024, as KiB and so on
// are; KB and so on are powers of 1000. A B is understood after a bare number.
func (n *byteCount) Set(s string) error {
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.ToLower(strings.TrimSpace(s[len(number):]))
	factor, known := 1.0, unit == "" || unit == "b"
	if !known {
		power := float64(1 + strings.Index("kmgt", unit[:1]))
		switch unit[1:] {
		case "", "i", "ib":
			factor = math.Pow(1024, power)
		case "b":
			factor = math.Pow(1000, power)
		default:
			power = 0
		}
		known = power > 0
	}
	value, err := strconv.ParseFloat(number, 64)
	bytes := value * factor
	if err != nil || !known || !(bytes >= 1 && bytes < math.MaxInt64) { // NaN too
		return errors.New("want a size such as 10GiB, 500MB or 512M")
	}
	*n = byteCount(bytes)
	return nil
}
