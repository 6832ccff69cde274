package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
)

// The ports of a fleet, by what listens there.
const (
	redisPort = iota
	frontPort
	originPort
	originPeer
	trackerPort
	indexPort
	firstAgent
)

// The ports of an agent, after firstAgent.
const (
	agentRegistry = iota
	agentPeer
	agentHealth
	portsOfAgent
)

func (f *Fleet) agentPort(agent, which int) int {
	return f.ports[firstAgent+portsOfAgent*agent+which]
}

// at is the address of a port of the fleet.
func (f *Fleet) at(which int) string { return "127.0.0.1:" + strconv.Itoa(f.ports[which]) }

// settings is a part of a component's configuration.
type settings map[string]any

func listener(address string) settings { return settings{"net": "tcp", "addr": address} }

func static(address string) settings {
	return settings{"hosts": settings{"static": []string{address}}}
}

// plain is TLS switched off, without which Kraken tries https first.
var plain = settings{"disabled": true}

// everything is a list with one setting for all repositories.
func everything(s settings) []settings {
	s["namespace"] = ".*"
	return []settings{s}
}

// common returns a component's own settings and those that every component
// needs. A component without an encoder for durations panics when it logs one.
func (f *Fleet) common(name string, own settings) settings {
	dir := filepath.Join(f.config.Dir, name)
	all := settings{
		"zap": settings{
			"level": "info", "encoding": "console",
			"outputPaths": []string{"stderr"}, "errorOutputPaths": []string{"stderr"},
			"encoderConfig": settings{
				"messageKey": "message", "levelKey": "level", "timeKey": "ts",
				"levelEncoder": "capital", "timeEncoder": "iso8601", "durationEncoder": "seconds",
			},
		},
		"tls": settings{"server": plain, "client": plain},
		// Kraken puts nginx's configuration at /tmp/nginx/NAME. The name climbs out of there.
		"nginx": settings{
			"name":          "../.." + filepath.Join(dir, "nginx.conf"),
			"template_path": filepath.Join(f.config.Dir, "no-site"),
			"cache_dir":     filepath.Join(dir, "nginx"), "log_dir": dir,
		},
	}
	maps.Copy(all, own)
	return all
}

// pieceLength is Kraken's default, spelled as it reads it: 4 MiB.
const pieceLength = "4MB"

func (f *Fleet) origin() settings {
	dir := filepath.Join(f.config.Dir, "origin")
	scheduler := settings{"torrentlog": settings{"disable": true}}
	if rate := f.config.OriginRate; rate > 0 {
		scheduler["conn"] = settings{"bandwidth": settings{
			"enable": true, "egress_bits_per_sec": 8 * rate, "ingress_bits_per_sec": 8_000_000_000,
		}}
	}
	return settings{
		"peer_id_factory": "addr_hash",
		"cluster":         settings{"static": []string{f.at(originPort)}},
		"blobserver":      settings{"listener": listener(f.at(originPort))},
		"castore":         settings{"upload_dir": filepath.Join(dir, "upload"), "cache_dir": filepath.Join(dir, "cache")},
		"localdb":         settings{"source": filepath.Join(dir, "origin.db")},
		"metainfogen":     settings{"piece_lengths": settings{"0": pieceLength}},
		"scheduler":       scheduler,
		"backends": everything(settings{"backend": settings{"registry_blob": settings{
			"address": f.at(frontPort), "timeout": "10m", // for a whole blob
			"security": settings{"tls": settings{"client": plain}},
		}}}),
	}
}

func (f *Fleet) tracker() settings {
	return settings{
		"peerstore":         settings{"redis": settings{"addr": f.at(redisPort)}},
		"origin":            static(f.at(originPort)),
		"peerhandoutpolicy": settings{"priority": "completeness"},
		"trackerserver":     settings{"listener": listener(f.at(trackerPort))},
	}
}

func (f *Fleet) buildIndex() settings {
	dir := filepath.Join(f.config.Dir, "build-index")
	return settings{
		"cluster":   static(f.at(indexPort)),
		"origin":    static(f.at(originPort)),
		"tagserver": settings{"listener": listener(f.at(indexPort))},
		"store":     settings{"upload_dir": filepath.Join(dir, "upload"), "cache_dir": filepath.Join(dir, "cache")},
		"localdb":   settings{"source": filepath.Join(dir, "index.db")},
		"tag_types": everything(settings{"type": "default"}),
		"backends": everything(settings{"backend": settings{"http": settings{
			"download_url": "http://" + f.at(frontPort) + "/tags/%s",
		}}}),
	}
}

func (f *Fleet) agent(name, registry string) settings {
	dir := filepath.Join(f.config.Dir, name)
	return settings{
		"peer_id_factory": "addr_hash",
		"tracker":         static(f.at(trackerPort)),
		"build_index":     static(f.at(indexPort)),
		"store":           settings{"download_dir": filepath.Join(dir, "download"), "cache_dir": filepath.Join(dir, "cache")},
		"scheduler":       settings{"torrentlog": settings{"disable": true}},
		"network_event":   settings{"enabled": true, "log_path": filepath.Join(dir, "events.log")},
		"registry":        settings{"docker": settings{"http": listener(registry)}},
	}
}

// startCenter starts everything but the agents. The tracker gives up at once
// where it finds no Redis; nothing else has an order.
func (f *Fleet) startCenter(ctx context.Context) error {
	redis, err := f.run(ctx, "redis", "redis", f.at(redisPort))
	if err != nil {
		return err
	}
	if err := redis.accepts(ctx, f.at(redisPort)); err != nil {
		return err
	}
	front, err := f.run(ctx, "front", "front", f.at(frontPort), f.config.Upstream)
	if err != nil {
		return err
	}
	waits := []error{front.accepts(ctx, f.at(frontPort))}
	for _, c := range []struct {
		name     string
		settings settings
		port     int
		flags    []string
	}{
		{"origin", f.origin(), originPort, []string{
			"--peer-ip", "127.0.0.1", "--peer-port", strconv.Itoa(f.ports[originPeer]),
			"--blobserver-hostname", "127.0.0.1", "--blobserver-port", strconv.Itoa(f.ports[originPort]),
		}},
		{"tracker", f.tracker(), trackerPort, []string{"--port", strconv.Itoa(f.ports[trackerPort])}},
		{"build-index", f.buildIndex(), indexPort, []string{"--port", strconv.Itoa(f.ports[indexPort])}},
	} {
		path, err := f.configure(c.name, c.settings)
		if err != nil {
			return err
		}
		p, err := f.run(ctx, c.name, append([]string{c.name, "--config", path}, c.flags...)...)
		if err != nil {
			return err
		}
		waits = append(waits, p.answers(ctx, "http://"+f.at(c.port)+"/health"))
	}
	return errors.Join(waits...)
}

// startAgent starts agent i, counted from 0 and named from 1.
func (f *Fleet) startAgent(ctx context.Context, i int) error {
	name := fmt.Sprintf("agent%d", i+1)
	a := &Agent{
		Host:   f.at(firstAgent + portsOfAgent*i + agentRegistry),
		events: filepath.Join(f.config.Dir, name, "events.log"),
		origin: peerID(f.ports[originPeer]),
	}
	path, err := f.configure(name, f.agent(name, a.Host))
	if err != nil {
		return err
	}
	a.process, err = f.run(ctx, name, "agent", "--config", path, "--peer-ip", "127.0.0.1",
		"--agent-registry-port", strconv.Itoa(f.agentPort(i, agentRegistry)),
		"--peer-port", strconv.Itoa(f.agentPort(i, agentPeer)),
		"--agent-server-port", strconv.Itoa(f.agentPort(i, agentHealth)))
	if err != nil {
		return err
	}
	f.Agents = append(f.Agents, a)
	return nil
}
