output "url" {
  description = "Address of the service within the cluster."
  value       = "http://${kubernetes_service_v1.service.metadata[0].name}.${var.namespace}.svc"
}

output "table_mib" {
  description = "Memory of a pod's table, its semaphores included."
  value       = ceil(local.shm_bytes / local.mib)
}

output "shm_mib" {
  description = "Size of a pod's /dev/shm."
  value       = local.shm_mib
}

output "memory_mib" {
  description = "Memory limit of a pod."
  value       = local.memory_mib
}

output "most_per_client" {
  description = "Requests that a client may get in an interval when all pods run."
  value       = var.limit * var.max_replicas
}
