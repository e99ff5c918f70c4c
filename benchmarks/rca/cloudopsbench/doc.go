// Package cloudopsbench x
package cloudopsbench
