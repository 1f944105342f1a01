module github.com/bam-operator/bam-operator/scripts/cluster/pause

go 1.26.0
