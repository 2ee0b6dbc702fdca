# How the service is reached, and by whom.

resource "kubernetes_service_v1" "service" {
  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    selector = local.labels

    port {
      name        = "http"
      port        = 80
      target_port = "http"
    }
  }
}

resource "kubernetes_ingress_v1" "service" {
  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    rule {
      host = var.host

      http {
        dynamic "path" {
          for_each = local.paths

          content {
            path      = path.key
            path_type = path.value

            backend {
              service {
                name = kubernetes_service_v1.service.metadata[0].name

                port {
                  name = "http"
                }
              }
            }
          }
        }
      }
    }
  }
}

resource "kubernetes_network_policy_v1" "service" {
  metadata {
    name      = var.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    # It connects to nobody: no egress block.
    policy_types = ["Ingress", "Egress"]

    pod_selector {
      match_labels = local.labels
    }

    ingress {
      from {
        namespace_selector {
          match_expressions {
            key      = "kubernetes.io/metadata.name"
            operator = "In"
            values   = var.client_namespaces
          }
        }
      }

      ports {
        port = "http"
      }
    }
  }
}
