//! The operator in a real cluster, as a user meets it: `kubectl apply`, wait, and look; while things are killed, deleted,
//! missing, full or broken.
//!
//! | environment | |
//! |---|---|
//! | `BAM_TEST_KUBECONFIG` | a cluster with the operator installed; without it every test is skipped |
//! | `BAM_TEST_VOLUME_DIR` | a folder of that cluster's node that the tests may fill: every test has its own volume in it |
//! | `BAM_TEST_BAM_DIR` | the small pretrained model and the demo data; `make test` makes one |
//! | `BAM_TEST_BAM`, `BAM_TEST_TRAINER` | the programs for what runs here to compare with; default: those beside the test |
//! | `BAM_TEST_CLUSTER_SCRIPT` | `scripts/cluster.sh`, to stop and start parts of the cluster |
//! | `BAM_TEST_PREVIOUS_SCRIPT` | the same of an older version's checkout, for the test of upgrades |
//! | `BAM_TEST_S3_SERVER` | an S3 server, for the test of buckets |
//! | `BAM_GLUE_DIR` | a BAM_DIR with the real data of GLUE |
//! | `BAM_TEST_MINUTES` | how long the ignored tests go on |
//!
//! A test has a namespace, a volume and watches of its own ([`namespace::Namespace`]), and leaves nothing. Those that
//! disturb what all share, the operator or the API server, have the cluster for themselves meanwhile.

mod cluster;
mod diary;
mod experiment;
mod namespace;
#[path = "../../trainer/tests/common/s3.rs"]
mod s3;
mod store;

// In this order they run: the long trainings first, beside which the others wait for their pods; last, alone, what disturbs.
mod bucket;
mod example;
mod faults;
mod lessons;
mod obstacles;
mod outage;
mod placement;
mod profiles;
mod push;
mod queue;
mod shared_teachers;
mod upheaval;
mod wishes;
