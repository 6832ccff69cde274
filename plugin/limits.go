package plugin

import "github.com/docker-fetcher/docker-fetcher/fetcher"

// Limits returns the bounds of this package, those of the plugin's process and
// of a Client alike, beside those of fetcher.Limits.
func Limits() []fetcher.Limit {
	const bytes, nanoseconds = fetcher.Bytes, fetcher.Nanoseconds
	return []fetcher.Limit{
		{Name: "a request", Value: maxRequestBytes, Unit: bytes, Reason: fetcher.RequestTooLarge, Beyond: "refused"},
		{Name: "the text of an error on the wire", Value: maxStatusText, Unit: bytes, Beyond: "its middle is cut out"},
		{Name: "a plugin's last words, where a launch fails", Value: maxLastWords, Unit: bytes, Beyond: "the rest is cut off"},
		{Name: "a plugin's launch", Value: int64(startTimeout), Unit: nanoseconds, Beyond: "the process is killed"},
		{Name: "a plugin's end by Close", Value: int64(endTimeout), Unit: nanoseconds, Beyond: "the process is killed"},
		{Name: "calls in flight when the plugin is told to end", Value: int64(drain), Unit: nanoseconds, Reason: fetcher.ShuttingDown, Beyond: "cancelled"},
		{Name: "their clean-up", Value: int64(haste), Unit: nanoseconds, Beyond: "the process ends"},
	}
}
