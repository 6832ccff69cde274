package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What a document that somebody made to hurt costs, and what it says.

// mostMemory is what Parse may allocate for a document of 4 MiB, all together,
// whether it is in use at once or not; times is the same for one byte of a
// smaller one.
const (
	mostMemory = 16 << 20
	times      = 6
)

// full repeats a piece until a document with what is around it has 256 KiB;
// %d in the piece is the number of the repetition, padded to 8 digits.
func full(before, piece, between, after string) string {
	return fullTo(1<<18, before, piece, between, after)
}

func fullTo(size int, before, piece, between, after string) string {
	head, tail, numbered := strings.Cut(piece, "%d")
	length := len(head) + len(tail) + len(between)
	if numbered {
		length += 8
	}
	var b strings.Builder
	b.WriteString(before)
	for i := range (size - len(before) - len(after) + len(between)) / length {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(head)
		if numbered {
			n := strconv.Itoa(i)
			b.WriteString("00000000"[len(n):] + n)
		}
		b.WriteString(tail)
	}
	return b.String() + after
}

const (
	zeros56  = "00000000000000000000000000000000000000000000000000000000"
	zeros    = zeros56 + "00000000"
	oneLayer = `"digest":"sha256:` + zeros + `","size":1`
	some     = `"digest":"sha256:%d` + zeros56 + `","size":1`
	opened   = `{"schemaVersion":2,"config":{` + oneLayer + `},"layers":[`
	tooMany  = "layers has more than 10000 distinct digests"
	details  = "layers has more than 20000 urls, annotations and os.features"
	tooDeep  = "exceeded max depth"
)

// numbered are n layers and a comma.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"digest":"sha256:%064d","size":1},`, i)
	}
	return b.String()
}

// hostile are documents, and what Parse says of them; "": it takes them.
var hostile = sync.OnceValue(func() []struct{ name, body, want string } {
	index := func(descriptor string) string {
		return fullTo(1<<20, `{"schemaVersion":2,"manifests":[`, descriptor, ",", "]}")
	}
	signature := protect(1, "}")
	return []struct{ name, body, want string }{
		{"as many layers as fit", fullTo(1<<20, opened, "{"+some+"}", ",", "]}"), tooMany},
		{"as many manifests as fit", index("{" + some + "}"), "manifests has more than 10000 distinct digests"},
		{"as many manifests with a platform as fit", index("{" + some + `,"platform":{"os":"linux","architecture":"amd64"}}`), ""},
		{"as many blobSums as fit", fullTo(1<<20, `{"schemaVersion":1,"fsLayers":[`, `{"blobSum":"sha256:%d`+zeros56+`"}`, ",", "]}"), "fsLayers has more than 10000 distinct digests"},
		{"one layer as often as fits", full(opened, "{"+oneLayer+"}", ",", "]}"), ""},
		{"one manifest as often as fits", index("{" + oneLayer + `,"platform":{}}`), ""},
		{"one blobSum as often as fits", full(`{"schemaVersion":1,"fsLayers":[`, `{"blobSum":"sha256:`+zeros+`"}`, ",", "]}"), ""},
		{"one layer with all its fields as often as fits", full(opened, "{"+oneLayer+`,"mediaType":"a","urls":[""],"data":"YQ==","artifactType":"b"}`, ",", "]}"), ""},
		{"layers of no field", full(opened, "{}", ",", "]}"), "layers[0]: digest is missing"},
		{"layers of null", full(opened, "null", ",", "]}"), "layers[0] is not an object"},
		{"layers of numbers", full(opened, "1", ",", "]}"), "layers[0] is not an object"},
		{"manifests of no field", full(`{"schemaVersion":2,"manifests":[`, "{}", ",", "]}"), "manifests[0]: digest is missing"},
		{"a bad layer at the end", full(opened, "{"+oneLayer+"}", ",", `,{"digest":"md5:x"}]}`), `digest "md5:x" is not valid`},

		{"urls without end", full(opened+"{"+oneLayer+`,"urls":[`, `""`, ",", "]}]}"), details},
		{"annotations without end", fullTo(1<<19, opened+"{"+oneLayer+`,"annotations":{`, `"%d":""`, ",", "}}]}"), details},
		{"one annotation over and over", full(opened+"{"+oneLayer+`,"annotations":{`, `"a":"b"`, ",", "}}]}"), details},
		{"annotations of each layer", full(opened, "{"+oneLayer+`,"annotations":{"a":""}}`, ",", "]}"), ""},
		{"features of a platform without end", index("{" + oneLayer + `,"platform":{"os.features":["a","b","c","d"]}}`), "manifests has more than 20000"},
		{"annotations of the document without end", full(`{"schemaVersion":2,"config":{`+oneLayer+`},"layers":[],"annotations":{`, `"%d":""`, ",", "}}"), ""},
		{"unknown fields without end", full(`{"schemaVersion":2,"config":{`+oneLayer+`},"layers":[],`, `"%d":0`, ",", "}"), ""},
		{"unknown fields of escapes without end", full(`{"schemaVersion":2,"config":{`+oneLayer+`},"layers":[],`, `"\u0061":0`, ",", "}"), ""},
		{"unknown fields of a layer without end", full(opened+"{"+oneLayer+`,`, `"%d":0`, ",", "}]}"), ""},

		{"10,000 levels of arrays", `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}", tooDeep},
		{"9,999 levels of arrays", opened + `],"a":` + strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999) + "}", ""},
		{"9,997 levels of objects in a layer", opened + "{" + oneLayer + `,"a":` + strings.Repeat(`{"a":`, 9_997) + "0" + strings.Repeat("}", 9_997) + "}]}", ""},
		{"2,000,000 levels of arrays", `{"a":` + strings.Repeat("[", 2_000_000), tooDeep},
		{"2,000,000 levels of arrays that end", `{"a":` + strings.Repeat("[", 2_000_000) + strings.Repeat("]", 2_000_000) + "}", tooDeep},
		{"2,000,000 levels of arrays alone", strings.Repeat("[", 2_000_000), "it is not a JSON object"},
		{"as many levels of objects as fit", full("", `{"a":`, "", ""), tooDeep},
		{"as many brackets that only begin as fit", full("", "{", "", ""), "it is not valid JSON"},

		{"a huge string", full(opened+`],"a":"`, "aaaaaaaa", "", `"}`), ""},
		{"a huge string for the media type", full(`{"mediaType":"`, "aaaaaaaa", "", `"}`), "Unsupported manifest MIME type: aaaa"},
		{"a huge string for a digest", full(opened+`{"size":1,"digest":"`, "aaaaaaaa", "", `"}]}`), `digest "aaaa`},
		{"a huge name", full(opened+`],"`, "aaaaaaaa", "", `":0}`), ""},
		{"a huge name of a layer's field", full(opened+"{"+oneLayer+`,"`, "aaaaaaaa", "", `":0}]}`), ""},
		{"a huge string of escapes", full(opened+`],"a":"`, `\u0000`, "", `"}`), ""},
		{"a huge media type of escapes", full(opened+"{"+oneLayer+`,"mediaType":"`, `\u00e9`, "", `"}]}`), ""},
		{"a huge media type of halves of pairs", full(opened+"{"+oneLayer+`,"mediaType":"`, `\ud800`, "", `"}]}`), ""},
		{"huge data", full(opened+"{"+oneLayer+`,"data":"`, "AAAA", "", `"}]}`), ""},
		{"a size of 1 MB of digits", opened + `{"digest":"sha256:` + zeros + `","size":` + strings.Repeat("9", 1_000_000) + "}]}", "layers[0]: size has the wrong type or is out of range"},
		{"a size of 1e400", opened + `{"digest":"sha256:` + zeros + `","size":1e400}]}`, "layers[0]: size has the wrong type or is out of range"},
		{"a fraction of 1 MB of digits", opened + `{"digest":"sha256:` + zeros + `","size":1.` + strings.Repeat("0", 1_000_000) + "}]}", "layers[0]: size has the wrong type or is out of range"},
		{"a version of 1 MB of digits", `{"schemaVersion":` + strings.Repeat("2", 1_000_000) + `,"manifests":[]}`, "not 2"},
		{"a version of 1e400", `{"schemaVersion":1e400,"manifests":[]}`, `its schemaVersion is "1e400", not 2`},
		{"a huge number that nobody reads", full(opened+`],"a":`, "9", "", "}"), ""},
		{"blanks", strings.Repeat(" ", 1<<18), "it is empty"},
		{"text that is no JSON", strings.Repeat("x", 1<<18), "it is not a JSON object"},
		{"bytes that are no text", `{"a":"` + strings.Repeat("\xff", 1<<18) + `"}`, "it is not UTF-8"},

		{"a field over and over", full("{", `"config":{}`, ",", "}"), `it has the field "config" twice`},
		{"a field of a layer over and over", full(opened+"{", `"size":1`, ",", "}]}"), `layers[0] has the field "size" twice`},
		{"a field of a platform over and over", full(opened+"{"+oneLayer+`,"platform":{`, `"os":"a"`, ",", "}}]}"), `layers[0].platform has the field "os" twice`},
		{"signatures without end", full(`{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:`+zeros+`"}],"signatures":[`, signature, ",", "]}"), ""},
	}
})

func TestAHostileDocumentCostsAFewTimesItsSize(t *testing.T) {
	for _, test := range hostile() {
		body := []byte(test.body)
		var err error
		cost := allocated(func() { _, err = Parse("", body) })
		t.Logf("%4.1f MiB of %3.1f: %s: %.100v", mebibytes(cost), mebibytes(uint64(len(body))), test.name, err)
		if cost > times*uint64(len(body))+1<<20 {
			t.Errorf("%s: %.1f MiB are allocated for %.1f", test.name, mebibytes(cost), mebibytes(uint64(len(body))))
		}
		switch {
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %.200v, want %q", test.name, err, test.want)
		case err != nil && len(err.Error()) > 500:
			t.Errorf("%s: the error has %d bytes", test.name, len(err.Error()))
		}
	}
}

// largest are the documents of 4 MiB of which a byte costs most.
var largest = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"different layers":             fullTo(MaxSize, opened, "{"+some+"}", ",", "]}"),
		"one manifest with a platform": fullTo(MaxSize, `{"schemaVersion":2,"manifests":[`, "{"+oneLayer+`,"platform":{}}`, ",", "]}"),
		"annotations of each layer":    fullTo(MaxSize, opened, "{"+oneLayer+`,"annotations":{"a":""}}`, ",", "]}"),
	}
})

func TestTheLargestDocumentCostsAtMost16MiB(t *testing.T) {
	for name, body := range largest() {
		if n := len(body); n > MaxSize || n < MaxSize-200 {
			t.Fatalf("%s: %d bytes", name, n)
		}
		data := []byte(body)
		if cost := allocated(func() { _, _ = Parse("", data) }); cost > mostMemory {
			t.Errorf("%s: %.1f MiB", name, mebibytes(cost))
		}
	}
}

func TestWhatFollowsTheLastDigestThatIsTakenIsNotDecoded(t *testing.T) {
	first := opened + numbered(maxDescriptors+1)
	bad := []byte(fullTo(1<<20, first, `{"digest":5}`, ",", "]}"))
	all := []byte(first + `{"digest":5}]}`)
	var long, short error
	more := int64(allocated(func() { _, long = Parse("", bad) }))
	more -= int64(allocated(func() { _, short = Parse("", all) }))
	if long == nil || short == nil || long.Error() != "invalid manifest: "+tooMany || short.Error() != long.Error() {
		t.Fatalf("%v; %v", long, short)
	}
	// The list has its room in advance: 8 bytes for 5 of the document.
	if most := int64(len(bad)-len(all)) * 2; more > most {
		t.Errorf("what follows costs %d bytes, want at most %d", more, most)
	}
}

func TestTheSignaturesThatAreReadAreBounded(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"too many of them":             {full(`{"a":1,"signatures":[`, protect(6, "}"), ",", "]}"), "there are more than 100 signatures"},
		"many fields beside them":      {full(`{"signatures":[`+protect(1, "}")+"],", `"%d":0`, ",", "}"), "is not the signatures alone"},
		"many fields where they begin": {full(`{"a":1,"signatures":[`+protect(6, "}")+"],", `"%d":0`, ",", "}"), "is not the signatures alone"},
		"a huge header":                {full(`{"a":1,"signatures":[{"protected":"`, "YWFh", "", `"}]}`), "protected is not a JWS header"},
	} {
		body := []byte(test.body)
		var err error
		cost := allocated(func() { _, err = Payload(MediaTypeDockerSchema1Signed, body) })
		if cost > mostMemory {
			t.Errorf("%s: %.1f MiB", name, mebibytes(cost))
		}
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

func TestTheBlobsOfAHostileDocumentCostNoMoreThanItself(t *testing.T) {
	d, err := Parse("", []byte(full(opened, "{"+oneLayer+"}", ",", "]}")))
	if err != nil {
		t.Fatal(err)
	}
	var blobs []Descriptor
	if cost := allocated(func() { blobs = d.Manifest.Blobs() }); cost > 1<<20 || len(blobs) != 1 {
		t.Errorf("%d blobs of %d layers take %d bytes", len(blobs), len(d.Manifest.Layers), cost)
	}
}

// TestParseHoldsADocumentToOneShape has the pairs of CVE-2021-41190, in which
// one reader sees an image and another an index, in both orders of the fields.
func TestParseHoldsADocumentToOneShape(t *testing.T) {
	t.Parallel()
	config, layers := `"config":{`+oneLayer+`}`, `"layers":[{`+oneLayer+`}]`
	manifests, fsLayers := `"manifests":[{`+oneLayer+`}]`, `"fsLayers":[{"blobSum":"sha256:`+zeros+`"}]`
	for _, test := range []struct{ a, b string }{
		{manifests, layers}, {manifests, config}, {manifests, fsLayers}, {fsLayers, layers}, {fsLayers, config},
		{manifests, `"layers":[]`}, {manifests, `"config":{}`}, {manifests, `"config":0`}, {fsLayers, `"manifests":[]`}, {fsLayers, `"manifests":""`},
	} {
		for contentType := range shapes {
			for _, members := range []string{test.a + "," + test.b, test.b + "," + test.a} {
				for _, own := range []string{"", `"mediaType":"` + contentType + `",`} {
					body := `{"schemaVersion":2,` + own + members + `}`
					if _, err := Parse(contentType, []byte(body)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "ambiguous") {
						t.Errorf("%s as %s: %v", body, contentType, err)
					}
				}
			}
		}
	}
	bodies := map[shape]string{
		manifestShape: `{"schemaVersion":2,%s` + config + "," + layers + `}`,
		indexShape:    `{"schemaVersion":2,%s` + manifests + `}`,
		schema1Shape:  `{"schemaVersion":1,%s` + fsLayers + `}`,
	}
	for is, body := range bodies {
		for mediaType, of := range shapes {
			d, err := Parse(mediaType, fmt.Appendf(nil, body, `"mediaType":"`+mediaType+`",`))
			if (err == nil) != (is == of) {
				t.Errorf("%s that calls itself %s: %v", is, mediaType, err)
			}
			if err == nil && (d.Index != nil) != (is == indexShape) {
				t.Errorf("%s that calls itself %s is read as %+v", is, mediaType, d)
			}
			// A header that is wrong does not change what the fields are.
			d, err = Parse(mediaType, fmt.Appendf(nil, body, ""))
			if err != nil || shapes[d.MediaType] != is {
				t.Errorf("%s with a Content-Type of %s: %s, %v", is, mediaType, d.MediaType, err)
			}
		}
	}
}

func TestParseTakesASizeOnlyIfItIsAWholeNumberInItsBounds(t *testing.T) {
	t.Parallel()
	for size, takes := range map[string]bool{
		"0": true, "1": true, "-0": true, "4611686018427387904": true,
		"-1": false, "-9223372036854775808": false, "4611686018427387905": false, "9223372036854775807": false,
		"9223372036854775808": false, "18446744073709551616": false, "1.5": false, "1.0": false, "1e3": false, "1e400": false,
		`"12"`: false, `""`: false, "null": false, "true": false, "[1]": false, `{"size":1}`: false,
	} {
		for _, body := range []string{
			`{"schemaVersion":2,"config":{` + oneLayer + `},"layers":[{"digest":"sha256:` + zeros + `","size":` + size + `}]}`,
			`{"schemaVersion":2,"config":{"size":` + size + `,"digest":"sha256:` + zeros + `"},"layers":[]}`,
			`{"schemaVersion":2,"manifests":[{"digest":"sha256:` + zeros + `","size":` + size + `}]}`,
		} {
			if _, err := Parse("", []byte(body)); (err == nil) != takes || err != nil && !strings.Contains(err.Error(), "size") {
				t.Errorf("%s: %v", body, err)
			}
		}
	}
}

func TestParseTakesOnlyDigestsThatMakeFileNames(t *testing.T) {
	t.Parallel()
	hex := string(digest.FromString("x"))[7:]
	for _, d := range []string{
		"md5:d41d8cd98f00b204e9800998ecf8427e", "sha1:" + hex[:40], "sha384:" + hex + hex[:32], "sha256:" + hex[:63], "sha256:" + hex + "0",
		"sha256:" + strings.ToUpper(hex), "SHA256:" + hex, "sha512:" + hex, "sha256:../../x", "sha256:" + strings.Repeat("../", 21) + "x",
		"../../etc/passwd", "/etc/passwd", "sha256:", "sha256", ":", "", "sha256+b64:" + hex, "sha256+b64:", "sha256:" + hex[:63] + `\u0000`,
		`sha256:\u0000`, `\u0000`, "sha256:" + hex + `\n`, "sha256:" + hex + " ", " sha256:" + hex, `sha256:` + hex[:62] + `\/x`, "sha256:" + hex + "/../x",
		"sha256:" + strings.Repeat("0", 100_000), strings.Repeat("a", 100_000) + ":" + hex, "blake3:" + hex, "sha256:" + hex[:62] + "é",
	} {
		for _, body := range []string{
			`{"schemaVersion":2,"config":{` + oneLayer + `},"layers":[{"digest":"` + d + `","size":1}]}`,
			`{"schemaVersion":2,"config":{"digest":"` + d + `","size":1},"layers":[]}`,
			`{"schemaVersion":2,"manifests":[{"digest":"` + d + `","size":1}]}`,
			`{"schemaVersion":1,"fsLayers":[{"blobSum":"` + d + `"}]}`,
		} {
			_, err := Parse("", []byte(body))
			if !errors.Is(err, ErrInvalid) || len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\x00\n") {
				t.Errorf("%.200s: %.300v", body, err)
			}
		}
	}
	for _, d := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")} {
		body := `{"schemaVersion":2,"config":{` + oneLayer + `},"layers":[{"digest":"` + strings.Replace(string(d), "s", `\u0073`, 1) + `","size":1}]}`
		if got, err := Parse("", []byte(body)); err != nil || got.Manifest.Layers[0].Digest != d {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestTheSumOfTwoSizesIsNotBelowZero(t *testing.T) {
	t.Parallel()
	body := opened + `{"digest":"sha256:` + zeros[1:] + `1","size":4611686018427387904}]}`
	d, err := Parse("", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if sum := d.Manifest.Config.Size + d.Manifest.Layers[0].Size; sum < 0 {
		t.Errorf("%d", sum)
	}
}

// FuzzTheWalkReadsAsEncodingJSONDoes compares what the walk cuts off a valid
// value with what the standard library decodes.
func FuzzTheWalkReadsAsEncodingJSONDoes(f *testing.F) {
	for _, name := range documents {
		f.Add(golden(f, name))
	}
	for _, s := range []string{
		`[]`, `{}`, `[1,-2.5e+3,"a",null,true,[[]],{"a":{"b":"]}"}}]`, ` [ 1 , 2 ] `, `["\\","\"","\\\"","]","}",",",":"]`,
		`{"a":"\u00e9\ud83d\ude00\ud800\ud800\ude00\udc00x\ud83d\u0041\/\b\f\n\r\t\\\""}`, `{"":{"":[{"":""}]}}`, "[\"\u2028\"]", `"x"`, `5`,
		`{"\u0061":1,"a":2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var want any
		if !json.Valid(value) || json.Unmarshal(value, &want) != nil {
			t.Skip()
		}
		got, rest := next(value)
		if strings.Trim(string(rest), blanks) != "" {
			t.Fatalf("%q: %q is left", value, rest)
		}
		same(t, got, want)
	})
}

// same fails the test unless the walk finds what encoding/json made of a value.
func same(t *testing.T, value json.RawMessage, want any) {
	t.Helper()
	switch want := want.(type) {
	case string:
		if got := strings.ToValidUTF8(string(unescape(value)), "\ufffd"); got != want && !strings.Contains(want, "\ufffd") {
			t.Fatalf("%q is read as %q, want %q", value, got, want)
		}
	case []any:
		n := 0
		for element := range elements(value) {
			same(t, element, want[n])
			n++
		}
		if n != len(want) {
			t.Fatalf("%q has %d elements, want %d", value, n, len(want))
		}
	case map[string]any:
		last := map[string]json.RawMessage{}
		for name, value := range pairs(value) {
			last[string(unescape(name))] = value
		}
		if len(last) != len(want) {
			t.Skip() // of names that are not UTF-8 or halves of pairs
		}
		for name, value := range last {
			if of, there := want[name]; there {
				same(t, value, of)
			}
		}
	case float64:
		if got, err := strconv.ParseFloat(string(value), 64); err != nil || got != want {
			t.Fatalf("%q is no %v", value, want)
		}
	default:
		if got := string(value); got != fmt.Sprint(want) && got != "null" {
			t.Fatalf("%q is no %v", value, want)
		}
	}
}

func BenchmarkParseLargest(b *testing.B) {
	for name, text := range largest() {
		body := []byte(text)
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Parse("", body)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"docker-manifest.json", "oci-index.json", "schema1-signed.json"} {
		body := golden(b, name)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(ocispec.MediaTypeImageManifest, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// allocated returns how many bytes are allocated while f runs, which is alone.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func mebibytes(n uint64) float64 { return float64(n) / (1 << 20) }
