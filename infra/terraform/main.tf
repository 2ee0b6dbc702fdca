# The example service on Kubernetes: what infra/kubernetes/service is, and with max_replicas above 1 what
# infra/kubernetes/scaled is. The reasons for each field stand there.

locals {
  labels = { "app.kubernetes.io/name" = var.name }
  uid    = 10001
  port   = 8000
  scaled = var.max_replicas > 1

  # The memory of a table, as docs/operations.md has it; the service always asks for 64 stripes.
  mib         = 1048576
  stripes     = 64
  seat_bytes  = 128 + 64 * ceil(local.stripes / 8)
  label_bytes = var.label_size == 0 ? 0 : 32 + 8 * ceil(var.label_size / 8)
  slots_bytes = var.initial_size * (81 + local.label_bytes)
  table_bytes = 512 + 512 * local.seat_bytes + 1024 * 192 + 8192 * local.stripes + local.slots_bytes
  shm_bytes   = local.table_bytes + 4096 * local.stripes
  # A quarter more, in steps of 4 MiB.
  shm_mib    = 4 * ceil(1.25 * local.shm_bytes / (4 * local.mib))
  tmp_mib    = 16
  memory_mib = var.worker_memory_mib * (var.workers + 2) + local.shm_mib + local.tmp_mib

  settings = {
    SERVICE_LIMIT           = tostring(var.limit)
    SERVICE_INTERVAL        = var.interval
    SERVICE_INITIAL_SIZE    = tostring(var.initial_size)
    SERVICE_LABEL_SIZE      = tostring(var.label_size)
    SERVICE_WORKERS         = tostring(var.workers)
    SERVICE_TRUSTED_PROXIES = join(",", var.trusted_proxies)
  }

  # What the outside may reach: /metrics, /dashboard and /admin are not among it.
  paths = {
    "/"             = "Exact"
    "/v1"           = "Prefix"
    "/r"            = "Prefix"
    "/openapi.json" = "Exact"
  }
}

resource "kubernetes_config_map_v1" "settings" {
  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  data = local.settings
}

resource "kubernetes_persistent_volume_claim_v1" "database" {
  count = local.scaled ? 0 : 1

  # A claim whose class waits for its first pod is bound by the Deployment.
  wait_until_bound = false

  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    access_modes = ["ReadWriteOnce"]

    resources {
      requests = { storage = var.database_size }
    }
  }
}

resource "kubernetes_deployment_v1" "service" {
  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    replicas = local.scaled ? null : 1

    strategy {
      type = local.scaled ? "RollingUpdate" : "Recreate"

      dynamic "rolling_update" {
        for_each = local.scaled ? [1] : []

        content {
          max_surge       = "1"
          max_unavailable = "0"
        }
      }
    }

    selector {
      match_labels = local.labels
    }

    template {
      metadata {
        labels = local.labels

        annotations = {
          "prometheus.io/scrape" = "true"
          "prometheus.io/port"   = tostring(local.port)
          "prometheus.io/path"   = "/metrics"
          # A changed setting rolls out.
          "checksum/settings" = sha256(jsonencode(local.settings))
        }
      }

      spec {
        # Without it a container that is restarted in its pod would be refused the table it finds.
        share_process_namespace          = true
        automount_service_account_token  = false
        enable_service_links             = false
        termination_grace_period_seconds = 45

        security_context {
          run_as_non_root        = true
          run_as_user            = tostring(local.uid)
          run_as_group           = tostring(local.uid)
          fs_group               = tostring(local.uid)
          fs_group_change_policy = "OnRootMismatch"

          seccomp_profile {
            type = "RuntimeDefault"
          }
        }

        container {
          name              = "service"
          image             = var.image
          image_pull_policy = "IfNotPresent"

          port {
            name           = "http"
            container_port = local.port
          }

          env_from {
            config_map_ref {
              name = kubernetes_config_map_v1.settings.metadata[0].name
            }
          }

          dynamic "env" {
            for_each = var.admin_token_secret == null ? [] : [var.admin_token_secret]

            content {
              name = "SERVICE_ADMIN_TOKEN"

              value_from {
                secret_key_ref {
                  name = env.value
                  key  = "admin-token"
                }
              }
            }
          }

          startup_probe {
            period_seconds    = 1
            timeout_seconds   = 3
            failure_threshold = 30

            http_get {
              path = "/healthz"
              port = "http"
            }
          }

          readiness_probe {
            period_seconds    = 5
            timeout_seconds   = 3
            failure_threshold = 3

            http_get {
              path = "/healthz"
              port = "http"
            }
          }

          liveness_probe {
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 6

            http_get {
              path = "/healthz"
              port = "http"
            }
          }

          lifecycle {
            pre_stop {
              exec {
                command = ["sleep", "5"]
              }
            }
          }

          resources {
            requests = {
              cpu    = var.cpu_request
              memory = "${local.memory_mib}Mi"
            }
            limits = {
              memory = "${local.memory_mib}Mi"
            }
          }

          security_context {
            allow_privilege_escalation = false
            read_only_root_filesystem  = true

            capabilities {
              drop = ["ALL"]
            }
          }

          volume_mount {
            name       = "shm"
            mount_path = "/dev/shm"
          }

          volume_mount {
            name       = "tmp"
            mount_path = "/tmp"
          }

          volume_mount {
            name       = "database"
            mount_path = "/var/lib/shm-store-service"
          }
        }

        volume {
          name = "shm"

          empty_dir {
            medium     = "Memory"
            size_limit = "${local.shm_mib}Mi"
          }
        }

        volume {
          name = "tmp"

          empty_dir {
            medium     = "Memory"
            size_limit = "${local.tmp_mib}Mi"
          }
        }

        volume {
          name = "database"

          dynamic "persistent_volume_claim" {
            for_each = kubernetes_persistent_volume_claim_v1.database

            content {
              claim_name = persistent_volume_claim.value.metadata[0].name
            }
          }

          dynamic "empty_dir" {
            for_each = local.scaled ? [1] : []

            content {
              size_limit = var.database_size
            }
          }
        }
      }
    }
  }
}

resource "kubernetes_pod_disruption_budget_v1" "service" {
  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    max_unavailable = "1"

    selector {
      match_labels = local.labels
    }
  }
}

resource "kubernetes_horizontal_pod_autoscaler_v2" "service" {
  count = local.scaled ? 1 : 0

  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    min_replicas = 2
    max_replicas = var.max_replicas

    scale_target_ref {
      api_version = "apps/v1"
      kind        = "Deployment"
      name        = kubernetes_deployment_v1.service.metadata[0].name
    }

    metric {
      type = "Resource"

      resource {
        name = "cpu"

        target {
          type                = "Utilization"
          average_utilization = 70
        }
      }
    }

    behavior {
      scale_down {
        # A pod that goes takes its buckets along: not at every lull.
        stabilization_window_seconds = 600

        policy {
          type           = "Pods"
          value          = 1
          period_seconds = 60
        }
      }
    }
  }
}
