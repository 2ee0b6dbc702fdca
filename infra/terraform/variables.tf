variable "name" {
  description = "Name of every object."
  type        = string
  default     = "shm-store-service"

  validation {
    condition     = can(regex("^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$", var.name))
    error_message = "Give lower-case letters, digits and hyphens, at most 52, beginning with a letter."
  }
}

variable "namespace" {
  description = "Namespace, which must exist."
  type        = string
  default     = "default"
}

variable "image" {
  description = "Image of the service, as infra/docker/Dockerfile builds it, with a tag or digest."
  type        = string

  validation {
    condition     = can(regex("[:@][^/]+$", var.image))
    error_message = "Name a tag or a digest: what runs must not change by itself."
  }
}

variable "limit" {
  description = "Requests per interval and client, for each pod."
  type        = number
  default     = 100

  validation {
    condition     = var.limit >= 1 && floor(var.limit) == var.limit
    error_message = "Give an integer from 1."
  }
}

variable "interval" {
  description = "Interval of the limit, such as 1min or 12hours."
  type        = string
  default     = "1min"
}

variable "initial_size" {
  description = "Slots of the table: twice the clients of one interval. Another number makes another table."
  type        = number
  default     = 65536

  validation {
    condition     = var.initial_size >= 1 && var.initial_size <= 67108864 && floor(var.initial_size) == var.initial_size
    error_message = "Give an integer from 1 to 67108864."
  }
}

variable "label_size" {
  description = "Bytes of each key that are kept as text for operators; 0 keeps none. Fixed like initial_size."
  type        = number
  default     = 64

  validation {
    condition     = var.label_size >= 0 && var.label_size <= 1024 && floor(var.label_size) == var.label_size
    error_message = "Give an integer from 0 to 1024."
  }
}

variable "workers" {
  description = "Worker processes of a pod, which share its limit."
  type        = number
  default     = 4

  validation {
    condition     = var.workers >= 1 && var.workers <= 1024 && floor(var.workers) == var.workers
    error_message = "Give an integer from 1 to 1024."
  }
}

variable "worker_memory_mib" {
  description = "Memory of each process: the workers, gunicorn's master and the sweeper."
  type        = number
  default     = 32

  validation {
    condition     = var.worker_memory_mib >= 24
    error_message = "Give 24 or more: below that the interpreter itself does not fit."
  }
}

variable "cpu_request" {
  description = "Processor time that a pod is sure to get. There is no limit: a throttled process keeps others waiting."
  type        = string
  default     = "250m"
}

variable "trusted_proxies" {
  description = "Networks that the ingress controller's pods are in: without them it would be the one client of all."
  type        = list(string)
  default     = ["10.0.0.0/8"]

  validation {
    condition     = alltrue([for each in var.trusted_proxies : can(cidrhost(each, 0))])
    error_message = "Give networks such as 10.0.0.0/8."
  }
}

variable "client_namespaces" {
  description = "Namespaces whose pods may connect: those of the ingress controller and of Prometheus."
  type        = list(string)
  default     = ["ingress-nginx", "monitoring"]
}

variable "host" {
  description = "Host name of the Ingress; null serves any."
  type        = string
  default     = null
}

variable "admin_token_secret" {
  description = "An existing Secret whose key admin-token is the token of /admin; null leaves /admin off."
  type        = string
  default     = null
}

variable "database_size" {
  description = "Size of the volume that holds the links."
  type        = string
  default     = "1Gi"
}

variable "max_replicas" {
  description = "Most pods. Each counts apart: a client may get as many times the limit. 1 keeps it exact."
  type        = number
  default     = 1

  validation {
    condition     = var.max_replicas >= 1 && floor(var.max_replicas) == var.max_replicas
    error_message = "Give an integer from 1."
  }
}
