package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// at is a platform from OS/ARCHITECTURE[/VARIANT], as it is, not normalised.
func at(text string) ocispec.Platform {
	parts := append(strings.Split(text, "/"), "", "")
	return ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// indexOf makes an index of which each entry's media type tells its place and
// platform; "-" is an entry without a platform.
func indexOf(entries ...string) *Index {
	x := &Index{}
	for i, text := range entries {
		d := Descriptor{MediaType: fmt.Sprint(i, " ", text), Digest: sum(text), Size: 1}
		if text != "-" {
			p := at(text)
			d.Platform = &p
		}
		x.Manifests = append(x.Manifests, d)
	}
	return x
}

func TestSelectChoosesThePlatform(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, asked string
		entries     []string
		want        string
	}{
		{"the same platform", "linux/amd64", []string{"linux/arm64", "linux/amd64", "linux/s390x"}, "1 linux/amd64"},
		{"the first of two equals", "linux/amd64", []string{"linux/amd64", "linux/amd64"}, "0 linux/amd64"},
		{"names that mean the same", "Linux/x86_64", []string{"linux/arm64", "linux/amd64"}, "1 linux/amd64"},
		{"names that mean the same in the index", "linux/arm64", []string{"linux/amd64", "Linux/aarch64"}, "1 Linux/aarch64"},

		{"arm64 is arm64/v8", "linux/arm64", []string{"linux/arm/v7", "linux/arm64/v8"}, "1 linux/arm64/v8"},
		{"arm64/v8 is arm64", "linux/arm64/v8", []string{"linux/arm/v7", "linux/arm64"}, "1 linux/arm64"},
		{"arm64/v9 runs arm64/v8", "linux/arm64/v9", []string{"linux/arm/v7", "linux/arm64/v8"}, "1 linux/arm64/v8"},
		{"arm64 runs 32-bit arm where there is nothing better", "linux/arm64", []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7"}, "2 linux/arm/v7"},
		{"the exact arm variant", "linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8"}, "2 linux/arm/v7"},
		{"the next lower arm variant", "linux/arm/v8", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v7"}, "2 linux/arm/v7"},
		{"the one after that", "linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6"}, "1 linux/arm/v6"},
		{"the lowest", "linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v5"}, "1 linux/arm/v5"},
		{"arm is arm/v7", "linux/arm", []string{"linux/arm/v6", "linux/arm/v7"}, "1 linux/arm/v7"},
		{"arm without a variant for one that v7 is too high for", "linux/arm/v6", []string{"linux/arm/v7", "linux/arm"}, "1 linux/arm"},
		{"a named lower variant before none", "linux/arm/v6", []string{"linux/arm", "linux/arm/v5"}, "1 linux/arm/v5"},

		{"base amd64 before its higher levels", "linux/amd64", []string{"linux/amd64/v3", "linux/amd64/v2", "linux/amd64"}, "2 linux/amd64"},
		{"base amd64 by its variant", "linux/amd64", []string{"linux/amd64/v2", "linux/amd64/v1"}, "1 linux/amd64/v1"},
		{"amd64/v3 before what it runs as well", "linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v3"}, "2 linux/amd64/v3"},
		{"amd64/v2 for v3", "linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, "1 linux/amd64/v2"},
		{"amd64 for v3", "linux/amd64/v3", []string{"linux/386", "linux/amd64"}, "1 linux/amd64"},
		{"386 for amd64 where there is nothing better", "linux/amd64", []string{"linux/arm64", "linux/386"}, "1 linux/386"},

		{"an unknown variant", "linux/arm64/v8.42", []string{"linux/arm64", "linux/arm64/v8.42"}, "1 linux/arm64/v8.42"},
		{"no variant for an unknown one", "linux/riscv64/rva23", []string{"linux/riscv64/rva20", "linux/riscv64"}, "1 linux/riscv64"},

		{"no attestation", "linux/amd64", []string{"unknown/unknown", "linux/amd64"}, "1 linux/amd64"},
		{"an attestation where it is asked for", "unknown/unknown", []string{"linux/amd64", "unknown/unknown"}, "1 unknown/unknown"},
		{"the only entry, which has no platform", "linux/amd64", []string{"-"}, "0 -"},
		{"no entry without a platform beside others", "linux/amd64", []string{"-", "linux/amd64"}, "1 linux/amd64"},
		{"the only entry, which names half a platform", "linux/amd64", []string{"linux/"}, "0 linux/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := indexOf(tt.entries...)
			got, err := x.Select(at(tt.asked))
			if err != nil || got.MediaType != tt.want {
				t.Errorf("%s, %v", got.MediaType, err)
			}
		})
	}
}

func TestSelectFailsWithWhatThereIs(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("linux/arch%02d", i), fmt.Sprintf("linux/arch%02d", i))
	}
	var first20 []string
	for i := range 20 {
		first20 = append(first20, fmt.Sprintf("linux/arch%02d", i))
	}
	for _, tt := range []struct {
		name, asked string
		entries     []string
		want        string
	}{
		{"another architecture", "linux/s390x", []string{"linux/amd64", "linux/arm64/v8"}, "no manifest for linux/s390x in the index; it has linux/amd64, linux/arm64/v8"},
		{"another operating system", "linux/amd64", []string{"windows/amd64"}, "no manifest for linux/amd64 in the index; it has windows/amd64"},
		{"a higher variant", "linux/arm/v6", []string{"linux/arm/v7"}, "no manifest for linux/arm/v6 in the index; it has linux/arm/v7"},
		{"a higher level of amd64", "linux/amd64", []string{"linux/amd64/v3"}, "no manifest for linux/amd64 in the index; it has linux/amd64/v3"},
		{"the only entry, which has another platform", "linux/amd64", []string{"linux/arm64"}, "no manifest for linux/amd64 in the index; it has linux/arm64"},
		{"each platform once, without attestations", "linux/s390x", []string{"linux/amd64", "unknown/unknown", "linux/amd64"}, "no manifest for linux/s390x in the index; it has linux/amd64"},
		{"attestations alone", "linux/amd64", []string{"unknown/unknown"}, "no manifest for linux/amd64 in the index; none of its 1 entries names a platform"},
		{"two entries without platforms", "linux/amd64", []string{"-", "-"}, "no manifest for linux/amd64 in the index; none of its 2 entries names a platform"},
		{"no entries", "linux/amd64", nil, "no manifest for linux/amd64 in the index; none of its 0 entries names a platform"},
		{"an entry without an operating system, which is not this machine's", "linux/amd64", []string{"/amd64", "linux/"}, "no manifest for linux/amd64 in the index; none of its 2 entries names a platform"},
		{"no more than 20", "linux/amd64", many, "no manifest for linux/amd64 in the index; it has " + strings.Join(first20, ", ") + " and more"},
		{"control characters", "linux/amd64", []string{"linux/\x1b[31m"}, `no manifest for linux/amd64 in the index; it has linux/\x1b[31m`},
		{"a long name", "linux/amd64", []string{"linux/" + strings.Repeat("x", 1000)}, "no manifest for linux/amd64 in the index; it has linux/" + strings.Repeat("x", 54) + "..."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := indexOf(tt.entries...).Select(at(tt.asked))
			if !errors.Is(err, ErrNoPlatform) || got.Digest != "" {
				t.Fatalf("%v, %v", got, err)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestSelectGoesByTheVersionOfWindows(t *testing.T) {
	t.Parallel()
	x := indexOf("windows/amd64", "windows/amd64", "windows/amd64")
	for i, version := range []string{"10.0.17763.6293", "10.0.20348.2700", "10.0.26100.1742"} {
		x.Manifests[i].Platform.OSVersion = version
		x.Manifests[i].Platform.OSFeatures = []string{"win32k"}
	}
	for host, want := range map[string]int{"10.0.17763.1": 0, "10.0.20348.1": 1, "": 0} {
		p := at("windows/amd64")
		p.OSVersion = host
		got, err := x.Select(p)
		if err != nil || !slices.Equal(got.Platform.OSFeatures, []string{"win32k"}) || got.MediaType != x.Manifests[want].MediaType {
			t.Errorf("%q: %s, %v", host, got.MediaType, err)
		}
	}
	p := at("windows/amd64")
	p.OSVersion = "10.0.14393.1"
	_, err := x.Select(p)
	const want = "no manifest for windows(10.0.14393.1)/amd64 in the index; " +
		"it has windows(10.0.17763.6293+win32k)/amd64, windows(10.0.20348.2700+win32k)/amd64, windows(10.0.26100.1742+win32k)/amd64"
	if !errors.Is(err, ErrNoPlatform) || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestSelectReturnsANestedIndexAsItIs(t *testing.T) {
	t.Parallel()
	x := indexOf("linux/arm64", "linux/amd64")
	x.Manifests[1].MediaType = ocispec.MediaTypeImageIndex
	got, err := x.Select(platforms.MustParse("linux/amd64"))
	if err != nil || got.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSelectLeavesTheIndexAlone(t *testing.T) {
	t.Parallel()
	x := indexOf("-", "linux/arm64", "unknown/unknown", "linux/amd64")
	before := fmt.Sprint(x.Manifests[0].MediaType, x.Manifests[1].MediaType, x.Manifests[2].MediaType, x.Manifests[3].MediaType)
	if _, err := x.Select(at("linux/amd64")); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(x.Manifests[0].MediaType, x.Manifests[1].MediaType, x.Manifests[2].MediaType, x.Manifests[3].MediaType); after != before {
		t.Errorf("%s became %s", before, after)
	}
}
