package scheme_test

import (
	"errors"
	"fmt"

	"github.com/docker-fetcher/docker-fetcher/scheme"
)

func ExampleParse() {
	r, err := scheme.Parse("docker-manifest://registry-1.docker.io/busybox?1.37#https")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r)
	fmt.Println(r.Host(), r.Repository, r.Identifier())
	// Output:
	// docker-manifest://docker.io/library/busybox?1.37#https
	// registry-1.docker.io library/busybox 1.37
}

func ExampleParseFamiliar() {
	for _, name := range []string{"alpine", "ghcr.io/org/app:1.2", "docker-manifest://localhost:5000/app:1#http"} {
		r, err := scheme.ParseFamiliar(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r)
	}
	// Output:
	// docker://docker.io/library/alpine?latest
	// docker://ghcr.io/org/app?1.2
	// docker-manifest://localhost:5000/app?1#http
}

func ExampleFromURI() {
	r, err := scheme.FromURI(scheme.URI{
		Scheme: "docker",
		Host:   new("ghcr.io"),
		Path:   "org/app",
		Query:  new("1.2"),
	})
	fmt.Println(r, err)
	// Output: docker://ghcr.io/org/app?1.2 <nil>
}

func ExampleError() {
	_, err := scheme.Parse("docker://ghcr.io/org/app")
	var e *scheme.Error
	if errors.As(err, &e) {
		fmt.Println(e.Part, e.Missing)
		fmt.Println(e)
	}
	// Output:
	// query true
	// Image tag/digest (uri.query) is not specified; name a tag or a digest
}
