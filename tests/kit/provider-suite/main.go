// The tests that virtual-kubelet has for its providers, as a program. Nothing of them is changed.
package main

import (
	"flag"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/test/e2e"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "of a user who may do everything")
	namespace  = flag.String("namespace", "default", "where Pods are made")
	node       = flag.String("node", "", "the Node that is tested")
	patience   = flag.Duration("patience", 30*time.Second, "for one condition")
)

func main() {
	testing.Init()
	flag.Parse()
	all := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "Provider", F: run}}, nil, nil)
}

func run(t *testing.T) {
	e2e.NewEndToEndTestSuite(e2e.EndToEndTestSuiteConfig{
		Kubeconfig: throughNodes(t), Namespace: *namespace, NodeName: *node, WatchTimeout: *patience,
	}).Run(t)
}

// The suite asks for figures by the API server's proxy to a Pod with the Node's name, as that is what it runs a provider in;
// and to Pods the API server does not say who it is. Its proxy to the Node leads to the same place, and says so.
func throughNodes(t *testing.T) string {
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	check(t, err)
	transport, err := rest.TransportFor(config)
	check(t, err)
	server, err := url.Parse(config.Host)
	check(t, err)
	pod := "/api/v1/namespaces/" + *namespace + "/pods/https:" + *node + ":10250/proxy/"
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(server)
			if path, found := strings.CutPrefix(r.Out.URL.Path, pod); found {
				r.Out.URL.Path, r.Out.URL.RawPath = "/api/v1/nodes/"+*node+"/proxy/"+path, ""
			}
		},
	})
	t.Cleanup(proxy.Close)
	here := api.NewConfig()
	here.Clusters["api-server"] = &api.Cluster{Server: proxy.URL}
	here.Contexts["api-server"] = &api.Context{Cluster: "api-server"}
	here.CurrentContext = "api-server"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	check(t, clientcmd.WriteToFile(*here, path))
	check(t, os.Unsetenv("KUBECONFIG"))
	return path
}

func check(t *testing.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}
