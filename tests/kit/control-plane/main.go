// Command control-plane is a whole Kubernetes control plane in one binary: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, and kubectl to look at it. It runs the part it is called
// by (a symbolic link's name), or else the part its first argument names.
//
// One binary instead of five because they share almost all of their code: it links once, and it
// takes 130 MB of disk instead of 500.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // CronJobs with a time zone, on machines without a time zone database

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	"k8s.io/component-base/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = `usage: control-plane (etcd | kube-apiserver | kube-controller-manager | kube-scheduler | kubectl | version) [arguments]`

func main() {
	part := filepath.Base(os.Args[0])
	if !known(part) {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(2)
		}
		part = os.Args[1]
		// Every part parses os.Args itself and must not see its own name as an argument.
		os.Args = append([]string{part}, os.Args[2:]...)
	}
	os.Exit(run(part))
}

func known(part string) bool {
	switch part {
	case "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl":
		return true
	}
	return false
}

func run(part string) int {
	switch part {
	case "etcd":
		etcdmain.Main(os.Args)
		return 0
	case "kube-apiserver":
		return serve(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		return serve(controllermanager.NewControllerManagerCommand())
	case "kube-scheduler":
		return serve(scheduler.NewSchedulerCommand())
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err) // prints it as kubectl does, and exits
		}
		return 0
	case "version":
		fmt.Println(version.Get().GitVersion)
		return 0
	}
	fmt.Fprintf(os.Stderr, "control-plane: no part is called %q\n%s\n", part, usage)
	return 2
}

func serve(command *cobra.Command) int { return cli.Run(command) }
