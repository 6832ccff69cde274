package plugin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/opencontainers/go-digest"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/scheme"
)

const name = "team/app"

// each runs a test on every subject.
func each(t *testing.T, test func(*testing.T, Fetcher)) {
	t.Helper()
	t.Parallel()
	for title, subject := range subjects {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			// Made first, so that it is removed last: a cancelled call returns
			// before the plugin has let go of the directory.
			t.TempDir()
			test(t, subject(t))
		})
	}
}

// uri names something in the registry.
func uri(t *testing.T, kind scheme.Kind, r *fetchertest.Registry, identifier string) scheme.URI {
	t.Helper()
	registryScheme, _, _ := strings.Cut(r.URL(), "://")
	ref, err := scheme.Parse(string(kind) + "://" + r.Host() + "/" + name + "?" + identifier + "#" + registryScheme)
	if err != nil {
		t.Fatal(err)
	}
	return ref.URI()
}

// files returns all that is below dir: content by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found[name] = string(data)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// leaves fails the test unless dir holds these files and no other.
func leaves(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%.2000s", diff)
	}
}

func layers(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = fetchertest.RandomLayer(uint64(i), 10_000+i)
	}
	return all
}

// of returns the files that an image should leave.
func of(p fetchertest.Pushed, layers [][]byte) map[string]string {
	want := map[string]string{"manifest": string(p.Manifest)}
	if p.ConfigDigest != "" {
		want[p.ConfigDigest] = string(p.Config)
	}
	for i, layer := range layers {
		want[p.LayerDigests[i]] = string(layer)
	}
	return want
}

func TestAnImageLeavesItsManifestConfigAndLayers(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		for title, oci := range map[string]bool{"docker schema 2": false, "OCI": true} {
			t.Run(title, func(t *testing.T) {
				r := fetchertest.New(t, fetchertest.Config{})
				blobs := layers(3)
				pushed := r.PutImage(name, "latest", fetchertest.Image{OCI: oci, Layers: blobs})
				dir := filepath.Join(t.TempDir(), "made", "if missing")
				result, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: dir})
				if err != nil {
					t.Fatal(err)
				}
				leaves(t, dir, of(pushed, blobs))
				manifest := fetcher.Descriptor{MediaType: pushed.MediaType, Digest: digest.Digest(pushed.ManifestDigest), Size: int64(len(pushed.Manifest))}
				if diff := cmp.Diff(manifest, result.Manifest); diff != "" {
					t.Errorf("manifest (-want +got):\n%s", diff)
				}
				want := append([]string{"manifest", pushed.ConfigDigest}, pushed.LayerDigests...)
				if diff := cmp.Diff(want, paths(result)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
				transferred := len(pushed.Config)
				for _, b := range blobs {
					transferred += len(b)
				}
				if result.BytesTransferred != int64(transferred) || result.Elapsed <= 0 || result.FinishedAt.IsZero() {
					t.Errorf("transferred %d bytes (want %d) in %v until %v", result.BytesTransferred, transferred, result.Elapsed, result.FinishedAt)
				}
				if n := r.Count(fetchertest.Any); n != 1+len(blobs)+1 {
					t.Errorf("%d requests", n)
				}
			})
		}
	})
}

func paths(r fetcher.Result) []string {
	var all []string
	for _, f := range r.Files {
		all = append(all, f.Path)
	}
	return all
}

func TestAnIndexLeavesThePlatformsManifestAndItself(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		for title, oci := range map[string]bool{"docker manifest list": false, "OCI index": true} {
			t.Run(title, func(t *testing.T) {
				r := fetchertest.New(t, fetchertest.Config{})
				arm, amd := layers(4)[:2], layers(4)[2:]
				index := r.PutIndex(name, "latest", oci,
					fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, Image: fetchertest.Image{Layers: arm}},
					fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}, Image: fetchertest.Image{Layers: amd}})
				for i, test := range []struct {
					platform fetcher.Platform
					layers   [][]byte
				}{{fetcher.Platform{OS: "linux", Architecture: "arm64"}, arm}, {linuxAMD64, amd}} {
					dir := t.TempDir()
					result, err := f.Fetch(t.Context(), fetcher.Request{
						URI: uri(t, scheme.Image, r, "latest"), Directory: dir, Platform: &test.platform,
					})
					if err != nil {
						t.Fatal(err)
					}
					want := of(index.Images[i], test.layers)
					want["index"] = string(index.Index)
					leaves(t, dir, want)
					if result.Manifest.Digest.String() != index.Images[i].ManifestDigest {
						t.Errorf("the manifest is %s", result.Manifest.Digest)
					}
				}
			})
		}
	})
}

func TestAnIndexOfAnEarlierFetchIsNotLeftBesideAnotherManifest(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		r.PutIndex(name, "index", true, fetchertest.PlatformImage{Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"}})
		pushed := r.PutImage(name, "plain", fetchertest.Image{})
		dir := t.TempDir()
		for _, tag := range []string{"index", "plain"} {
			_, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Manifest, r, tag), Directory: dir, Platform: &linuxAMD64})
			if err != nil {
				t.Fatal(err)
			}
		}
		leaves(t, dir, map[string]string{"manifest": string(pushed.Manifest)})
	})
}

func TestAManifestURILeavesTheManifestOnly(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
		dir := t.TempDir()
		for _, test := range []struct{ output, file string }{{"", "manifest"}, {"m.json", "m.json"}} {
			_, err := f.Fetch(t.Context(), fetcher.Request{
				URI: uri(t, scheme.Manifest, r, pushed.ManifestDigest), Directory: dir, OutputFileName: test.output,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		leaves(t, dir, map[string]string{"manifest": string(pushed.Manifest), "m.json": string(pushed.Manifest)})
		if n := r.Count(fetchertest.Blob); n != 0 {
			t.Errorf("%d blobs were asked for", n)
		}
	})
}

func TestABlobURILeavesTheBlobUnderItsDigestOrAnotherName(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		data := fetchertest.RandomLayer(7, 3<<20)
		d := r.PutBlob(name, data)
		dir := t.TempDir()
		for _, test := range []struct{ output, file string }{{"", d}, {"layer.tar", "layer.tar"}} {
			result, err := f.Fetch(t.Context(), fetcher.Request{
				URI: uri(t, scheme.Blob, r, d), Directory: dir, OutputFileName: test.output,
			})
			if err != nil {
				t.Fatal(err)
			}
			want := fetcher.File{Path: test.file, Descriptor: fetcher.Descriptor{Digest: digest.Digest(d), Size: 3 << 20}}
			if diff := cmp.Diff([]fetcher.File{want}, result.Files); diff != "" {
				t.Error(diff)
			}
		}
		leaves(t, dir, map[string]string{d: string(data), "layer.tar": string(data)})
		if n := r.Count(fetchertest.Any); n != 2 {
			t.Errorf("%d requests for two blobs", n)
		}
	})
}

func TestSchema1LeavesItsLayers(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		for _, signed := range []bool{false, true} {
			r := fetchertest.New(t, fetchertest.Config{})
			blobs := layers(2)
			pushed := r.PutSchema1(name, "old", fetchertest.Schema1{Layers: blobs, Signed: signed})
			for _, identifier := range []string{"old", pushed.ManifestDigest} {
				dir := t.TempDir()
				result, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Image, r, identifier), Directory: dir})
				if err != nil {
					t.Fatal(err)
				}
				leaves(t, dir, of(pushed, blobs))
				if result.Manifest.Digest.String() != pushed.ManifestDigest {
					t.Errorf("the manifest is %s, the registry says %s", result.Manifest.Digest, pushed.ManifestDigest)
				}
			}
		}
	})
}

func TestAContentTypeThatIsMissingOrWrongDoesNotMatter(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		for _, contentType := range [][]string{nil, {"text/plain"}, {"application/octet-stream"}, {"application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"}} {
			r := fetchertest.New(t, fetchertest.Config{})
			blobs := layers(1)
			pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: blobs})
			r.Inject(fetchertest.Fault{Match: fetchertest.Match{Endpoint: fetchertest.Manifest}, Header: map[string][]string{"Content-Type": contentType}})
			dir := t.TempDir()
			if _, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: dir}); err != nil {
				t.Errorf("%q: %v", contentType, err)
				continue
			}
			leaves(t, dir, of(pushed, blobs))
		}
	})
}

func TestWhatIsThereIsKeptWhenRightAndReplacedWhenWrong(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		blobs := layers(2)
		pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: blobs})
		request := fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: t.TempDir()}
		if _, err := f.Fetch(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		damaged := filepath.Join(request.Directory, pushed.LayerDigests[1])
		if err := os.WriteFile(damaged, fetchertest.RandomLayer(9, len(blobs[1])), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Reset()
		result, err := f.Fetch(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		leaves(t, request.Directory, of(pushed, blobs))
		var reused []bool
		for _, file := range result.Files {
			reused = append(reused, file.Reused)
		}
		if diff := cmp.Diff([]bool{false, true, true, false}, reused); diff != "" {
			t.Errorf("reused (-want +got):\n%s", diff)
		}
		if n := r.Count(fetchertest.Blob); n != 1 {
			t.Errorf("%d blobs were asked for, want the damaged one only", n)
		}
	})
}

func TestALayerThatComesTwiceIsFetchedOnceAndASkippedOneNever(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		blobs := layers(2)
		pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: [][]byte{blobs[0], blobs[1], blobs[0]}})
		dir := t.TempDir()
		_, err := f.Fetch(t.Context(), fetcher.Request{
			URI: uri(t, scheme.Image, r, "latest"), Directory: dir, SkipDigests: []digest.Digest{digest.Digest(pushed.LayerDigests[1])},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := of(pushed, [][]byte{blobs[0], blobs[1], blobs[0]})
		delete(want, pushed.LayerDigests[1])
		leaves(t, dir, want)
		if n := r.Count(fetchertest.Blob); n != 2 {
			t.Errorf("%d blobs were asked for, want the config and one layer", n)
		}
	})
}

func TestTheSecretIsTakenInAllItsForms(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer, Username: "u", Password: canary + ":ä", Service: "s"}})
		blobs := layers(1)
		pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: blobs})
		config := login(r.Host(), "u", canary+":ä")
		secret := mesos.Secret{Type: mesos.Secret_VALUE, Value: &mesos.Secret_Value{Data: config}}
		binary, err := secret.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		for form, c := range map[string]fetcher.DockerConfig{
			"config.json": {JSON: config}, "a Secret": {MesosSecret: binary}, "a Secret as JSON": {MesosSecretJSON: text},
		} {
			dir := t.TempDir()
			if _, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: dir, Config: c}); err != nil {
				t.Errorf("%s: %v", form, err)
				continue
			}
			leaves(t, dir, of(pushed, blobs))
		}
	})
}

func login(host, user, password string) []byte {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth)
}

func TestATokenThatExpiresInTheMiddleOfABlobIsRenewedAndTheBlobContinued(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
		data := fetchertest.RandomLayer(3, 3<<20)
		d := r.PutBlob(name, data)
		const reached = 2<<20 + 1000
		r.Inject(fetchertest.Fault{
			Match: fetchertest.Match{Endpoint: fetchertest.Blob}, CutAt: reached, Times: 1,
			Notice: func(fetchertest.Request) { r.RevokeTokens() },
		})
		dir := t.TempDir()
		result, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Blob, r, d), Directory: dir})
		if err != nil {
			t.Fatal(err)
		}
		leaves(t, dir, map[string]string{d: string(data)})
		if result.BytesTransferred != int64(len(data)) {
			t.Errorf("transferred %d bytes of %d", result.BytesTransferred, len(data))
		}
		var asked []string
		for _, q := range r.Requests() {
			kind, _, _ := strings.Cut(q.Authorization, " ")
			asked = append(asked, strings.Join([]string{string(q.Endpoint), kind, q.Range}, " "))
		}
		from := fmt.Sprintf("bytes=%d-", reached)
		want := []string{"blob  ", "token  ", "blob Bearer ", "blob Bearer " + from, "token  ", "blob Bearer " + from}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}

func TestParallelCallsShareADirectory(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{Auth: fetchertest.Auth{Scheme: fetchertest.Bearer}})
		blobs := layers(8)
		want, dir := map[string]string{}, t.TempDir()
		var calls sync.WaitGroup
		for _, blob := range blobs {
			d := r.PutBlob(name, blob)
			want[d] = string(blob)
			for range 2 {
				calls.Go(func() {
					if _, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Blob, r, d), Directory: dir}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		calls.Wait()
		leaves(t, dir, want)
		if n := r.Count(fetchertest.Token); n != 1 {
			t.Errorf("%d tokens were asked for", n)
		}
	})
}

func TestEventsTellTheStoryInOrder(t *testing.T) {
	t.Parallel()
	for title, subject := range subjects {
		if strings.Contains(title, "synced") {
			continue // no events there
		}
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := subject(t)
			r := fetchertest.New(t, fetchertest.Config{})
			pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: layers(2)})
			var started []fetcher.Started
			var done []string
			_, err := f.Fetch(t.Context(), fetcher.Request{
				URI: uri(t, scheme.Image, r, "latest"), Directory: t.TempDir(),
				Observe: func(e fetcher.Event) {
					switch e := e.(type) {
					case fetcher.Started:
						if len(done) > 0 {
							t.Error("a file was done before the start")
						}
						started = append(started, e)
					case fetcher.FileDone:
						done = append(done, e.File.Path)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			manifest := fetcher.Descriptor{MediaType: pushed.MediaType, Digest: digest.Digest(pushed.ManifestDigest), Size: int64(len(pushed.Manifest))}
			total := int64(len(pushed.Manifest) + len(pushed.Config) + 10_000 + 10_001)
			if diff := cmp.Diff([]fetcher.Started{{Manifest: manifest, TotalBytes: total, TotalFiles: 4}}, started); diff != "" {
				t.Errorf("started (-want +got):\n%s", diff)
			}
			slices.Sort(done)
			want := append([]string{"manifest", pushed.ConfigDigest}, pushed.LayerDigests...)
			slices.Sort(want)
			if diff := cmp.Diff(want, done); diff != "" {
				t.Errorf("files done (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolveTellsWhatATagNames(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		index := r.PutIndex(name, "latest", true, fetchertest.PlatformImage{
			Platform: fetchertest.Platform{OS: "linux", Architecture: "amd64"},
			Image:    fetchertest.Image{Layers: [][]byte{[]byte("a"), []byte("bc"), []byte("a")}},
		})
		image := index.Images[0]
		got, err := f.Resolve(t.Context(), fetcher.ResolveRequest{URI: uri(t, scheme.Image, r, "latest"), Platform: &linuxAMD64})
		if err != nil {
			t.Fatal(err)
		}
		summary := []string{got.Manifest.Digest.String(), got.Index.Digest.String(), got.Config.Digest.String()}
		for _, l := range got.Layers {
			summary = append(summary, fmt.Sprintf("%s %d", l.Digest, l.Size))
		}
		want := []string{
			image.ManifestDigest, index.IndexDigest, image.ConfigDigest,
			image.LayerDigests[0] + " 1", image.LayerDigests[1] + " 2", image.LayerDigests[0] + " 1",
		}
		if diff := cmp.Diff(want, summary); diff != "" {
			t.Error(diff)
		}
		if n := r.Count(fetchertest.Blob); n != 0 {
			t.Errorf("%d blobs were asked for", n)
		}
	})
}

func TestCancelEndsAFetchAndLeavesNothingPartial(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: layers(1)})
		ctx, cancel := context.WithCancel(t.Context())
		r.Inject(fetchertest.Fault{
			Match: fetchertest.Match{Identifier: pushed.LayerDigests[0]}, StallAt: 5000, Notice: func(fetchertest.Request) { cancel() },
		})
		dir := t.TempDir()
		_, err := f.Fetch(ctx, fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: dir})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, ok := files(t, dir)[pushed.LayerDigests[0]]; ok {
			t.Error("the layer is there")
		}
	})
}

func TestAFetchThatFailsLeavesTheCompleteFilesAndNoOther(t *testing.T) {
	each(t, func(t *testing.T, f Fetcher) {
		r := fetchertest.New(t, fetchertest.Config{})
		blobs := layers(1)
		pushed := r.PutImage(name, "latest", fetchertest.Image{Layers: blobs})
		r.Inject(fetchertest.Fault{Match: fetchertest.Match{Identifier: pushed.LayerDigests[0]}, Corrupt: true})
		dir := t.TempDir()
		_, err := f.Fetch(t.Context(), fetcher.Request{URI: uri(t, scheme.Image, r, "latest"), Directory: dir, MaxParallel: 1})
		if !errors.Is(err, fetcher.ErrIntegrity) {
			t.Errorf("got %v", err)
		}
		want := of(pushed, blobs)
		maps.DeleteFunc(want, func(name, _ string) bool { return name == pushed.LayerDigests[0] })
		leaves(t, dir, want)
	})
}
